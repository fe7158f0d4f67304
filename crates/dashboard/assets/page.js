// Reads /api/live and keeps tables and graph in step with it.
"use strict";

const Format = {
  number: (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2).replace(/\.?0+$/, "") || "0"),
  rate: (edge) => (edge.protocol === "tcp" ? `${Format.number(edge.bytes / 1024)} KiB/s` : `${Format.number(edge.rate)}/s`),
  errors: (edge) => `${Format.number(edge.error_percent)} %`,
  ms: (value) => (value === null || value === undefined ? "–" : value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${Format.number(value)} ms`),
  age: (s) => (s < 120 ? `${s}s` : s < 7200 ? `${Math.floor(s / 60)}m` : s < 172800 ? `${Math.floor(s / 3600)}h` : `${Math.floor(s / 86400)}d`),
};

const Page = (() => {
  const $ = (id) => document.getElementById(id);

  const cell = (text, kind, head) => {
    const td = document.createElement(head ? "th" : "td");
    if (head) td.scope = "row";
    if (kind) td.className = kind;
    td.textContent = text;
    return td;
  };

  const row = (cells) => {
    const tr = document.createElement("tr");
    tr.append(...cells);
    return tr;
  };

  const short = (id) => {
    const [group, version] = id.split("@");
    const name = group.split("/").pop();
    return version && version !== "latest" ? `${name} ${version}` : name;
  };

  function edges(data) {
    const list = data.edges.slice().sort((a, b) => b.rate - a.rate || a.from.localeCompare(b.from));
    $("edges").replaceChildren(...list.map((edge) => {
      const security = edge.mtls === true ? ["mutual TLS", "ok-text"] : edge.mtls === false ? ["plain", "warn-text"] : ["–", "soft"];
      const codes = Object.entries(edge.codes).map(([code, rate]) => `${code === "0" ? "no answer" : code} ${Format.number(rate)}/s`).join(", ");
      return row([
        cell(short(edge.from)), cell(short(edge.to)), cell(Format.rate(edge), "n"),
        cell(edge.rate > 0 ? Format.errors(edge) : "–", edge.error_percent > 0 ? "n bad-text" : "n"),
        cell(Format.ms(edge.p50), "n"), cell(Format.ms(edge.p99), "n"), cell(security[0], security[1]), cell(codes || "–", "soft"),
      ]);
    }));
    $("no-edges").hidden = list.length > 0;
    $("hint").textContent = data.gateway_url ? `curl ${data.gateway_url}/` : "lateen exec POD -- curl http://SERVICE/";
  }

  function pods(data) {
    const list = data.pods.slice().sort((a, b) => (a.namespace + a.name).localeCompare(b.namespace + b.name));
    $("pods").replaceChildren(...list.map((pod) => row([
      cell(pod.namespace === "default" ? pod.name : `${pod.namespace}/${pod.name}`),
      cell(pod.containers, pod.ready ? "" : "warn-text"), cell(pod.status, pod.status === "Running" ? "" : "warn-text"),
      cell(String(pod.restarts), pod.restarts > 0 ? "n warn-text" : "n"), cell(Format.age(pod.age_seconds), "n"), cell(pod.ip || "–", "soft"),
    ])));
    $("pods-ready").textContent = `${list.filter((pod) => pod.ready).length} of ${list.length} ready`;
  }

  function problems(data) {
    const item = (problem) => {
      const li = document.createElement("li");
      const head = document.createElement("b");
      head.className = problem.severity === "Error" ? "bad-text" : problem.severity === "Warning" ? "warn-text" : "soft";
      head.textContent = problem.severity + " ";
      const where = document.createElement("span");
      where.className = "where";
      const place = problem.location ? `${problem.location.file}:${problem.location.line}:${problem.location.column}` : "";
      where.textContent = [problem.object, problem.path, place].filter(Boolean).join(" · ");
      li.append(head, problem.message + (problem.remedy ? "; " + problem.remedy : ""), where);
      return li;
    };
    const list = data.problems.slice().sort((a, b) => "EWI".indexOf(a.severity[0]) - "EWI".indexOf(b.severity[0]));
    if (list.length) {
      $("problems").replaceChildren(...list.map(item));
    } else {
      const li = document.createElement("li");
      li.className = "soft";
      li.textContent = "None.";
      $("problems").replaceChildren(li);
    }
    $("problem-count").textContent = list.length ? String(list.length) : "";
  }

  function show(data) {
    $("mesh").textContent = data.mesh && data.mesh !== "default" ? data.mesh : "";
    document.title = data.mesh && data.mesh !== "default" ? `Lateen ${data.mesh}` : "Lateen";
    $("gateway").textContent = data.gateway_url || "none";
    if (data.gateway_url) $("gateway").href = data.gateway_url; else $("gateway").removeAttribute("href");
    const rate = data.edges.reduce((sum, edge) => sum + (edge.protocol === "http" ? edge.rate : 0), 0);
    $("totals").textContent = `${data.nodes.length} workloads · ${Format.number(rate)} requests/s`;
    Graph.draw($("graph"), data);
    edges(data);
    pods(data);
    problems(data);
    document.body.dataset.samples = String(Number(document.body.dataset.samples || 0) + 1);
  }

  function status(text, kind) {
    $("state-text").textContent = text;
    $("dot").className = "dot " + kind;
  }

  function start() {
    const source = new EventSource("api/live");
    source.onmessage = (event) => {
      const data = JSON.parse(event.data);
      if (!data.nodes) return;
      status("live", "live");
      show(data);
    };
    source.onerror = () => status("mesh not reachable", "lost");
  }

  return { start };
})();

Page.start();
