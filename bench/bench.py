#!/usr/bin/env python3
"""Side-by-side proxy bench, interleaved rounds, loopback.
usage: bench.py SCENARIO [--only a,b] [--rounds 3] [--dur 2] [--out results.jsonl]
scenarios: S1 (h1 1 hop, 1KiB), S1L (1MiB), S3 (two proxies mTLS), S3L, S2C (h2c->h1), S2T (h2 TLS->h1), S2U (h2c->h2c), S4 (tcp small), S4T (tcp stream)
modes per scenario: sat (closed loop 64 conns), rate (fixed rate), rss (idle, 1000 conns)
Proxy processes: taskset core 1; generator+backend: core 0. CPU = sum of /proc/PID/task/*/schedstat (ns on cpu), split by utime/stime of /proc/PID/stat."""
import subprocess, os, sys, time, json, glob, signal, argparse, statistics as st, socket
D = os.path.dirname(os.path.abspath(__file__)); C = D + "/conf"; CERT = D + "/certs"; R = os.path.dirname(D)
LG = os.environ.get("LG", f"{D}/tools/target/release/lg")
ENVOY = os.environ.get("ENVOY") or next(iter(glob.glob(f"{R}/target/peers/**/_bin/envoy", recursive=True)), "envoy")
NICE = os.environ.get("NICE", "0"); HZ = os.sysconf("SC_CLK_TCK")
def env(n, *a): return [ENVOY, "-c", f"{C}/{n}.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error", "--base-id", "0", *a]
def ngx(n): return ["nginx", "-c", f"{C}/{n}.conf"]
def ha(n): return ["haproxy", "-db", "-f", f"{C}/{n}.cfg"]
def lt(n): return [os.environ.get("LATEEN", f"{R}/target/release/lateen"), "proxy", "-c", f"{C}/{n}.json", "--concurrency", "1"]
P = { # name: (commands, port)
 "direct": ([], 9000), "direct-src": ([], 9001),
 "floor": ([[LG, "fwd", "--listen", "127.0.0.1:9501", "--up", "127.0.0.1:9000"]], 9501),
 "floor-splice": ([[LG, "fwd", "--splice", "--listen", "127.0.0.1:9502", "--up", "127.0.0.1:9000"]], 9502),
 "floor-src": ([[LG, "fwd", "--listen", "127.0.0.1:9503", "--up", "127.0.0.1:9001"]], 9503),
 "floor-splice-src": ([[LG, "fwd", "--splice", "--listen", "127.0.0.1:9504", "--up", "127.0.0.1:9001"]], 9504),
 "floor2": ([[LG, "fwd", "--listen", "127.0.0.1:9506", "--up", "127.0.0.1:9000"], ["sh", "-c", "sleep 0.3; exec " + LG + " fwd --listen 127.0.0.1:9505 --up 127.0.0.1:9506"]], 9505),
 "envoy-min": ([env("envoy-min")], 9201), "envoy-istio": ([env("envoy-istio")], 9202),
 "nginx": ([ngx("nginx")], 9301), "haproxy": ([ha("haproxy")], 9401),
 # the product: set LATEEN to its binary
 "lateen": ([lt("lateen")], 9701), "lateen2": ([lt("lateen-in"), lt("lateen-out")], 9705), "lateen-h2c": ([lt("lateen")], 9701), "lateen-tls": ([lt("lateen-tls")], 9704),
 "lateen-tcp": ([lt("lateen-tcp")], 9707), "lateen-tcp-src": ([lt("lateen-tcps")], 9708),
 # S3
 "envoy2": ([env("envoy-in"), env("envoy-out")], 9205), "nginx2": ([ngx("nginx-in"), ngx("nginx-out")], 9305), "haproxy2": ([ha("haproxy-in"), ha("haproxy-out")], 9405),
 # S2
 "envoy-h2c": ([env("envoy-istio")], 9202), "nginx-h2c": ([ngx("nginx-h2c")], 9302), "haproxy-h2c": ([ha("haproxy-h2c")], 9402),
 "envoy-tls": ([env("envoy-tls")], 9204), "nginx-tls": ([ngx("nginx-tls")], 9304), "haproxy-tls": ([ha("haproxy-tls")], 9404),
 # S4
 "envoy-tcp": ([env("envoy-tcp")], 9207), "envoy-tcp-src": ([env("envoy-tcps")], 9208), "haproxy-tcp": ([ha("haproxy-tcp")], 9407), "haproxy-tcp-src": ([ha("haproxy-tcp")], 9408), "haproxy-spl": ([ha("haproxy-tcpsplice")], 9417), "haproxy-spl-src": ([ha("haproxy-tcpsplice")], 9418),
}
SC = {
 "S1": dict(peers=["direct", "floor", "floor-splice", "envoy-min", "envoy-istio", "nginx", "haproxy", "lateen"], path="/b/1024", rate=5000),
 "S1L": dict(peers=["direct", "floor", "floor-splice", "envoy-istio", "nginx", "haproxy", "lateen"], path="/b/1048576", conns=16, rate=0),
 "S3": dict(peers=["floor2", "envoy2", "nginx2", "haproxy2", "lateen2"], path="/b/1024", rate=2000),
 "S3L": dict(peers=["floor2", "envoy2", "nginx2", "haproxy2", "lateen2"], path="/b/1048576", conns=16, rate=0),
 "S2C": dict(peers=["envoy-h2c", "nginx-h2c", "haproxy-h2c", "lateen-h2c"], path="/b/1024", h2="http"),
 "S2T": dict(peers=["envoy-tls", "nginx-tls", "haproxy-tls", "lateen-tls"], path="/b/1024", h2="https"),
 "S4": dict(peers=["direct", "floor", "floor-splice", "envoy-tcp", "haproxy-tcp", "haproxy-spl", "lateen-tcp"], path="/b/1024", rate=5000),
 "S4T": dict(peers=["direct-src", "floor-src", "floor-splice-src", "envoy-tcp-src", "haproxy-tcp-src", "haproxy-spl-src", "lateen-tcp-src"], tcp=True),
}
def tree(pid):
    out = [pid]
    for f in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for c in open(f).read().split(): out += tree(int(c))
        except OSError: pass
    return out
def cpu(pids):
    ns = us = sy = wait = 0
    for p in pids:
        for f in glob.glob(f"/proc/{p}/task/*/schedstat"):
            try: a = open(f).read().split(); ns += int(a[0]); wait += int(a[1])
            except OSError: pass
        try: s = open(f"/proc/{p}/stat").read().rsplit(") ", 1)[1].split(); us += int(s[11]); sy += int(s[12])
        except OSError: pass
    return ns / 1e9, us / HZ, sy / HZ, wait / 1e9
def rss(pids):
    k = 0
    for p in pids:
        try:
            for l in open(f"/proc/{p}/smaps_rollup"):
                if l.startswith("Pss:"): k += int(l.split()[1])
        except OSError: pass
    return k
def start(name):
    procs = []
    t0 = time.time()
    for c in P[name][0]:
        procs.append(subprocess.Popen(["nice", "-n", NICE, "taskset", "-c", "1", *c], stdout=subprocess.DEVNULL, stderr=open(f"/tmp/lateen-bench/{name}.err", "a")))
    port = P[name][1]
    while True:
        try: socket.create_connection(("127.0.0.1", port), 1).close(); break
        except OSError:
            if time.time() - t0 > 20: raise RuntimeError(f"{name} did not start")
            time.sleep(0.01)
    t = time.time() - t0
    time.sleep(0.3)
    return procs, t
def stop(procs):
    for p in procs:
        if p.poll() is None: p.terminate()
    for p in procs:
        try: p.wait(5)
        except subprocess.TimeoutExpired: p.kill(); p.wait()
RT = False
def rt(pids, on):
    global RT; RT = on
    for p in pids: subprocess.run(["chrt", "-a", *(["-f", "-p", "1"] if on else ["-o", "-p", "0"]), str(p)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
def lg(*a, timeout=60):
    r = subprocess.run([*(["chrt", "-f", "1"] if RT else ["nice", "-n", NICE]), "taskset", "-c", "0", LG, *map(str, a)], capture_output=True, text=True, timeout=timeout)
    if r.returncode: raise RuntimeError(r.stderr + r.stdout)
    return json.loads(r.stdout.splitlines()[-1])
def h2load(port, sc, path, dur):
    r = subprocess.run(["nice", "-n", NICE, "taskset", "-c", "0", "h2load", "-t1", "-c8", "-m8", "-D", str(int(dur)), f"{sc}://localhost:{port}{path}".replace("localhost", "127.0.0.1"), "-H", ":authority: svc.default.svc.cluster.local", "-H","accept: application/json, text/plain, */*","-H","cookie: session=0123456789abcdef0123456789abcdef; user=jason","-H","x-tenant: acme-widgets","-H","traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"], capture_output=True, text=True, timeout=60)
    import re
    m = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed", r.stdout)
    if not m: raise RuntimeError(r.stdout + r.stderr)
    ok = int(m[4]); rps = float(re.search(r"finished in ([\d.]+)s, ([\d.]+) req/s", r.stdout)[2])
    return dict(requests=ok, errors=int(m[3]) - ok, rps=rps, mbytes_s=0)
def main():
    ap = argparse.ArgumentParser(); ap.add_argument("sc"); ap.add_argument("--only"); ap.add_argument("--rounds", type=int, default=3); ap.add_argument("--dur", type=float, default=2); ap.add_argument("--modes", default="sat,rate"); ap.add_argument("--out", default=f"{D}/results.jsonl"); ap.add_argument("--rate", type=float, default=0); ap.add_argument("--conns", type=int, default=0)
    a = ap.parse_args(); s = SC[a.sc]; peers = a.only.split(",") if a.only else s["peers"]; conns = a.conns or s.get("conns", 64)
    try:
        os.setsid()
        open('/proc/self/autogroup','w').write(os.environ.get('AUTOGROUP','-15'))
    except OSError as e: print('autogroup', e, file=sys.stderr)
    be = subprocess.Popen(["nice", "-n", NICE, "taskset", "-c", "0", LG, "backend", "--port", "9000", "--source-port", "9001"]); time.sleep(0.2)
    res = {}
    out = open(a.out, "a")
    try:
        for rnd in range(a.rounds):
            for n in peers:
                try: procs, t = start(n)
                except Exception as e: print(f"skip {n}: {e}", file=sys.stderr); continue
                try:
                    pids = [q for p in procs for q in tree(p.pid)]; port = P[n][1]; addr = f"127.0.0.1:{port}"
                    for m in a.modes.split(","):
                        rec = dict(sc=a.sc, mode=m, peer=n, round=rnd, start_s=round(t, 3))
                        if m == "rss":
                            rec["rss_idle_kb"] = rss(pids)
                            q = subprocess.Popen(["nice", "-n", NICE, "taskset", "-c", "0", LG, "load", "--addr", addr, "--conns", "1000", "--dur", "4", "--once", "--hold", "3", "--path", s["path"]], stdout=subprocess.PIPE, text=True)
                            l = q.stdout.readline(); time.sleep(1.0); rec["rss_1000_kb"] = rss(pids); rec["kb_per_conn"] = (rec["rss_1000_kb"] - rec["rss_idle_kb"]) / 1000; rec.update({k: v for k, v in json.loads(l).items() if k in ("requests", "errors")}); q.wait()
                        else:
                            run = lambda d: (lg("tcpsink", "--addr", addr, "--dur", d) if s.get("tcp") else h2load(port, s["h2"], s["path"], max(1, d)) if s.get("h2") else lg("load", "--addr", addr, "--conns", conns, "--dur", d, "--path", s["path"], *(["--rate", a.rate or s["rate"]] if m == "rate" else [])))
                            if m == "rate": rt(pids + [be.pid], True)
                            run(0.4)
                            c0 = cpu(pids); b0 = cpu([be.pid]); r = run(a.dur); c1 = cpu(pids); b1 = cpu([be.pid])
                            if m == "rate": rt(pids + [be.pid], False)
                            k = max(r["requests"], 1)
                            rec.update(r); rec.update(cpu_us=(c1[0] - c0[0]) * 1e6 / k, usr_us=(c1[1] - c0[1]) * 1e6 / k, sys_us=(c1[2] - c0[2]) * 1e6 / k, util=(c1[0] - c0[0]) / a.dur, wait=(c1[3] - c0[3]) / a.dur, be_us=(b1[0] - b0[0]) * 1e6 / k)
                        res.setdefault((n, m), []).append(rec); out.write(json.dumps(rec) + "\n"); out.flush()
                except Exception as e: print(f"{n}: {e}", file=sys.stderr)
                finally: stop(procs)
    finally: be.terminate(); be.wait()
    for m in a.modes.split(","):
        rows = [(n, res[(n, m)]) for n in peers if (n, m) in res]
        if not rows: continue
        f = lambda rs, k: st.median([r.get(k, 0) for r in rs])
        print(f"\n### {a.sc} {m} rounds={a.rounds} dur={a.dur}s (median; proxy CPU µs per request [per MiB for tcp])")
        if m == "rss":
            print("| peer | start s | idle PSS KiB | PSS 1000 conns KiB | KiB/conn | errors |\n|---|---|---|---|---|---|")
            for n, rs in rows: print(f"| {n} | {f(rs,'start_s'):.3f} | {f(rs,'rss_idle_kb'):.0f} | {f(rs,'rss_1000_kb'):.0f} | {f(rs,'kb_per_conn'):.1f} | {f(rs,'errors'):.0f} |")
            continue
        print("| peer | cpu µs/req | min | max | usr | sys | rps/core=1e6/cpu | rps | MB/s | util | p50 µs | p99 µs | p99.9 | err | runq wait |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
        for n, rs in rows:
            cpus = [r["cpu_us"] for r in rs]; c = st.median(cpus)
            print(f"| {n} | {c:.2f} | {min(cpus):.2f} | {max(cpus):.2f} | {f(rs,'usr_us'):.1f} | {f(rs,'sys_us'):.1f} | {1e6/c if c else 0:.0f} | {f(rs,'rps'):.0f} | {f(rs,'mbytes_s') or f(rs,'gbit_s')*125:.0f} | {f(rs,'util'):.2f} | {f(rs,'p50_us'):.0f} | {f(rs,'p99_us'):.0f} | {f(rs,'p999_us'):.0f} | {f(rs,'errors'):.0f} | {f(rs,'wait'):.2f} |")
main()
