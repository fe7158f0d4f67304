// The graph as SVG. Layout is dagre's; positions are kept while the set of nodes and edges stays the same, so that nothing jumps.
"use strict";

const Graph = (() => {
  const NODE_W = 172, NODE_H = 46, LABEL_W = 150, LABEL_H = 34;
  let shape = "", layout = null;

  const el = (name, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const cut = (text, max) => (text.length > max ? text.slice(0, max - 1) + "…" : text);

  // Nodes that are versions of one service stand in one box.
  const groups = (nodes) => {
    const sizes = new Map();
    for (const node of nodes) sizes.set(node.group, (sizes.get(node.group) || 0) + 1);
    return new Map([...sizes].filter(([, size]) => size > 1));
  };

  function compute(nodes, edges) {
    const graph = new dagre.graphlib.Graph({ compound: true });
    graph.setGraph({ rankdir: "LR", nodesep: 26, ranksep: 18, edgesep: 16, marginx: 14, marginy: 20 });
    graph.setDefaultEdgeLabel(() => ({}));
    const boxes = groups(nodes);
    for (const [group] of boxes) graph.setNode("group " + group, {});
    for (const node of nodes) {
      graph.setNode(node.id, { width: NODE_W, height: NODE_H });
      if (boxes.has(node.group)) graph.setParent(node.id, "group " + node.group);
    }
    for (const edge of edges) graph.setEdge(edge.from, edge.to, { width: LABEL_W, height: LABEL_H, labelpos: "c" });
    dagre.layout(graph);
    return { graph, boxes };
  }

  const line = (points) => {
    const at = (p) => `${p.x.toFixed(1)},${p.y.toFixed(1)}`;
    if (points.length < 3) return "M" + points.map(at).join("L");
    let path = "M" + at(points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const end = i === points.length - 2 ? points[i + 1] : { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
      path += `Q${at(points[i])} ${at(end)}`;
    }
    return path;
  };

  const state = (edge) => (edge.rate <= 0 ? "idle" : edge.error_percent > 0 ? "bad" : "ok");

  function drawEdge(svg, edge, route) {
    const points = route.points;
    const kind = state(edge);
    const path = el("path", { class: `edge ${kind}${edge.rate > 0 ? " moving" : ""}`, d: line(points), "marker-end": `url(#arrow-${kind})` });
    path.append(el("title", {}, `${edge.from} → ${edge.to}: ${Format.rate(edge)}, ${Format.errors(edge)} errors, p99 ${Format.ms(edge.p99)}`));
    svg.append(path);
    const middle = { x: route.x, y: route.y };
    const words = edge.rate > 0 ? Format.rate(edge) + (edge.error_percent > 0 ? `, ${Format.errors(edge)} err` : "") : "";
    const below = edge.rate > 0 && edge.p50 !== null ? `p50 ${Format.ms(edge.p50)} · p99 ${Format.ms(edge.p99)}` : "";
    // The line runs between the two texts.
    const label = el("g", { transform: `translate(${middle.x.toFixed(1)},${middle.y.toFixed(1)})` });
    if (words) {
      label.append(el("text", { x: edge.mtls === null ? 0 : 7, y: -6, "text-anchor": "middle" }, words));
      if (below) label.append(el("text", { class: "sub", x: 0, y: 15, "text-anchor": "middle" }, below));
    }
    if (edge.mtls !== null) {
      const shackle = edge.mtls ? "M-2.7-1v-2a2.7 2.7 0 0 1 5.4 0v2" : "M-2.7-1v-2a2.7 2.7 0 0 1 5.2-1";
      const lock = el("path", { class: edge.mtls ? "lock" : "lock open", d: "M-4.5-1h9v6.5h-9z" + shackle, transform: words ? `translate(${(-words.length * 3 - 4).toFixed(1)},-11)` : "translate(0,-9)" });
      lock.append(el("title", {}, edge.mtls ? "mutual TLS" : "not encrypted"));
      label.append(lock);
    }
    svg.append(label);
  }

  function drawNode(svg, node, at, grouped) {
    const broken = node.total > 0 && node.ready < node.total;
    const group = el("g", { class: `node ${node.kind}${broken ? " broken" : ""}`, transform: `translate(${(at.x - NODE_W / 2).toFixed(1)},${(at.y - NODE_H / 2).toFixed(1)})` });
    group.append(el("rect", { width: NODE_W, height: NODE_H, rx: 8 }));
    const title = grouped ? node.version : node.app + (node.version && node.version !== "latest" && node.kind === "service" ? " " + node.version : "");
    group.append(el("text", { class: "title", x: 12, y: 19 }, cut(title || "unknown", 21)));
    const pods = node.total > 0 ? `${node.ready}/${node.total} ready` + (node.injected < node.total ? ", no sidecar" : "") : node.kind === "outside" ? "outside the mesh" : "no pod";
    group.append(el("text", { class: "sub", x: 12, y: 35 }, pods));
    group.append(el("title", {}, node.id));
    svg.append(group);
  }

  function draw(place, data) {
    const next = JSON.stringify([data.nodes.map((n) => n.id), data.edges.map((e) => [e.from, e.to])]);
    if (next !== shape) {
      layout = compute(data.nodes, data.edges);
      shape = next;
    }
    const { graph, boxes } = layout;
    const size = graph.graph();
    if (!data.nodes.length || !isFinite(size.width)) { place.replaceChildren(); return; }
    const svg = el("svg", { width: Math.ceil(size.width), height: Math.ceil(size.height), viewBox: `0 0 ${Math.ceil(size.width)} ${Math.ceil(size.height)}` });
    const defs = el("defs");
    for (const kind of ["ok", "bad", "idle"]) {
      const marker = el("marker", { id: "arrow-" + kind, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 7, markerHeight: 7, orient: "auto" });
      marker.append(el("path", { class: "arrow " + kind, d: "M0 0 10 5 0 10z" }));
      defs.append(marker);
    }
    svg.append(defs);
    for (const [name] of boxes) {
      const at = graph.node("group " + name);
      svg.append(el("rect", { class: "group", x: at.x - at.width / 2, y: at.y - at.height / 2, width: at.width, height: at.height, rx: 12 }));
      svg.append(el("text", { class: "title", x: at.x - at.width / 2 + 12, y: at.y - at.height / 2 - 5 }, cut(name.split("/").pop(), 24)));
    }
    for (const edge of data.edges) drawEdge(svg, edge, graph.edge(edge.from, edge.to));
    for (const node of data.nodes) drawNode(svg, node, graph.node(node.id), boxes.has(node.group));
    place.replaceChildren(svg);
  }

  return { draw };
})();
