#!/usr/bin/env python3
"""Measures the embedded mesh: time to ready, memory (PSS) idle, and how soon a changed weight is in force.
usage: mesh.py [--rounds 5] [--out results/mesh.json]   (set LATEEN to the binary; default target/release/lateen)"""
import argparse, glob, json, os, re, shutil, statistics as st, subprocess, sys, tempfile, threading, time, urllib.request
D = os.path.dirname(os.path.abspath(__file__)); R = os.path.dirname(D)
LATEEN = os.environ.get("LATEEN", f"{R}/target/release/lateen")
INGRESS, PAGE = 18080, 18090

def children(pid):
    out = [pid]
    for f in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for c in open(f).read().split(): out += children(int(c))
        except OSError: pass
    return out
def cmdline(pid):
    try: return open(f"/proc/{pid}/cmdline").read().replace("\0", " ").strip()
    except OSError: return ""
def pss(pid):
    try:
        for l in open(f"/proc/{pid}/smaps_rollup"):
            if l.startswith("Pss:"): return int(l.split()[1])
    except OSError: pass
    return 0
def get(url, timeout=5):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as r: return r.status, r.read().decode()
    except urllib.error.HTTPError as e: return e.code, e.read().decode()
    except OSError as e: return 0, str(e)
def up(directory, name):
    """Starts a mesh; returns (process, seconds until the first 200 through gateway and all three services)."""
    log = open(f"/tmp/{name}.log", "w")
    t0 = time.time()
    p = subprocess.Popen([LATEEN, "up", directory, "--name", name, "--ingress", str(INGRESS), "--dashboard", str(PAGE)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    said = None
    while time.time() - t0 < 60:
        if said is None and re.search(r"(?m)ready in|mesh is up|is up", open(log.name).read()): said = time.time() - t0
        code, _ = get(f"http://127.0.0.1:{INGRESS}/", 1)
        if code == 200 and said is not None: return p, said, time.time() - t0
        if p.poll() is not None: raise RuntimeError(open(log.name).read())
        time.sleep(0.005)
    raise RuntimeError("not up after 60 s: " + open(log.name).read())
def down(p):
    p.terminate()
    try: p.wait(20)
    except subprocess.TimeoutExpired: p.kill(); p.wait()
def weights(path, v1, v2):
    text = open(path).read()
    parts = iter([v1, v2])
    new = re.sub(r"weight: \d+", lambda _: f"weight: {next(parts)}", text, count=2)
    with open(path + ".tmp", "w") as f: f.write(new)
    os.rename(path + ".tmp", path)

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--rounds", type=int, default=5); ap.add_argument("--out", default=f"{D}/results/mesh.json"); a = ap.parse_args()
    directory = tempfile.mkdtemp(prefix="lateen-bench-"); shutil.copytree(f"{R}/examples/mini-mesh", directory, dirs_exist_ok=True)
    said, first = [], []
    for _ in range(a.rounds):
        p, s, f = up(directory, "bench"); said.append(s); first.append(f); down(p)
    p, _, _ = up(directory, "bench")
    time.sleep(5)
    rows = []
    for pid in children(p.pid):
        line = cmdline(pid)
        if line: rows.append((pss(pid), line[:90]))
    mesh = [r for r in rows if " app " not in r[1]]
    sidecars = [k for k, line in rows if "sidecar" in line and "router" not in line]
    # A changed weight: keep asking through the gateway on kept-alive connections, and note the last answer of the old subset.
    canary = f"{directory}/canary.yaml"; took, lost, asked = [], 0, 0
    for flip in range(2 * a.rounds):
        to = "v2" if flip % 2 == 0 else "v1"; stop = time.time() + 1.0; t0 = time.time()
        weights(canary, *((0, 100) if to == "v2" else (100, 0)))
        last_old = 0.0
        while time.time() < stop:
            began = time.time(); code, body = get(f"http://127.0.0.1:{INGRESS}/", 5); asked += 1
            if code != 200: lost += 1
            seen = set(re.findall(r"backend[- ](v\d)", body))
            if seen and seen != {to}: last_old = began - t0
        took.append(last_old * 1000)
    down(p); shutil.rmtree(directory)
    took = took[1:]
    result = dict(machine=dict(cpu=next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if "model name" in l), "?"), cores=os.cpu_count(), kernel=os.uname().release),
      ready_s=dict(median=st.median(said), all=said), first_answer_s=dict(median=st.median(first), all=first),
      idle_pss_kib=dict(mesh_total=sum(k for k, _ in mesh), everything=sum(k for k, _ in rows), sidecars=sidecars, rows=rows),
      change_in_force_ms=dict(median=st.median(took), worst=max(took), all=took), during_changes=dict(requests=asked, lost=lost))
    os.makedirs(os.path.dirname(a.out), exist_ok=True); json.dump(result, open(a.out, "w"), indent=1)
    print(json.dumps(result, indent=1))
main()
