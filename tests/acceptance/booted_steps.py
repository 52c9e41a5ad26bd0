"""What a node under systemd must do, step by step in this order, each in a container that the steps before it left.

Every step returns one line of what was found, or raises ContainerFailed. Owns the commands; must not know how the
container is made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from tests.acceptance.booted_scene import CONFIG, HOST, OTHER_HOST, TLS_DIR, Scene
from tests.acceptance.container import ContainerFailed

FILE_BYTES: Final = 40_000_000
PROMETHEUS: Final = """\
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: {rules}
scrape_configs:
  - job_name: cacheserver
    static_configs:
      - targets: ["127.0.0.1:8081"]
"""
RULES: Final = "/etc/prometheus/rules"
OWN_RULE: Final = """\
groups:
  - name: node
    rules:
      - alert: NodeDown
        expr: up{job="cacheserver"} == 0
"""


def install_with_one_command(scene: Scene) -> str:
    """A clean Debian, one command, a node that serves on port 80 as a user of its own."""
    scene.container.run(scene.install)
    for name, wanted in (("ActiveState", "active"), ("SubState", "running"), ("User", "cacheserver")):
        scene.expect(name, wanted)
    if scene.container.run("systemctl is-enabled cacheserver.service") != "enabled":
        raise ContainerFailed("the service is not enabled")
    pid = scene.show("MainPID")
    user = scene.container.run(f"stat -c %U /proc/{pid}")
    if user != "cacheserver":
        raise ContainerFailed(f"the node runs as {user}")
    scene.container.run("cacheserver health --ready --config " + CONFIG)
    return scene.show("StatusText")


def score_as_documented(scene: Scene) -> str:
    """The sandbox that the running service really has."""
    scene.container.run("systemd-analyze security --threshold=16 cacheserver.service >/dev/null")
    line = scene.container.run("systemd-analyze security --no-pager cacheserver.service | tail -1")
    return line.split("service: ")[-1]


def serve_by_both_schemes(scene: Scene) -> str:
    """http and https, a miss and then hits, right bytes by digest."""
    run = scene.container.run
    run(f"mkdir -p /srv/origin && head -c {FILE_BYTES} /dev/urandom > /srv/origin/payload.bin")
    run("touch -d 2024-01-01 /srv/origin/payload.bin")  # its age makes it fresh for weeks
    scene.digest = run("sha256sum < /srv/origin/payload.bin").split()[0]
    run(
        "systemd-run --quiet --unit=origin python3 -m http.server 9000 --bind 127.0.0.1 --directory /srv/origin; "
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={HOST} "
        f"-addext subjectAltName=DNS:{HOST},DNS:{OTHER_HOST} -keyout {TLS_DIR}/node.key -out {TLS_DIR}/node.pem "
        f"2>/dev/null; chown cacheserver: {TLS_DIR}/*; chmod 0600 {TLS_DIR}/node.key"
    )
    scene.use(HOST)
    run("systemctl restart cacheserver.service")
    found = [scene.download(f"{scheme}://{HOST}/payload.bin") for scheme in ("http", "http", "https")]
    if "fwd=uri-miss" not in found[0] or not found[1].startswith("hit") or not found[2].startswith("hit"):
        raise ContainerFailed(f"Cache-Status: {found}")
    return "; ".join(found)


def reload_without_a_cut(scene: Scene) -> str:
    """New settings are taken up, wrong ones refused, by the same process."""
    pid = scene.show("MainPID")
    scene.use(HOST, OTHER_HOST)
    scene.container.run("systemctl reload cacheserver.service")
    scene.download(f"http://{OTHER_HOST}/payload.bin")
    scene.container.write(CONFIG, "[fill]\nparallel = 0\n")
    scene.container.run("systemctl reload cacheserver.service", fails=True)
    scene.download(f"https://{OTHER_HOST}/payload.bin")
    scene.use(HOST, OTHER_HOST)
    scene.container.run("systemctl reload cacheserver.service")
    scene.expect("MainPID", pid)
    return f"same process, {scene.show('StatusText')}"


def start_again_after_a_hang(scene: Scene) -> str:
    """A process that is stopped sends no pings: systemd ends it and starts another."""
    scene.container.write("/etc/systemd/system/cacheserver.service.d/short.conf", "[Service]\nWatchdogSec=2\n")
    scene.container.run("systemctl daemon-reload; systemctl restart cacheserver.service")
    pid, begun_s = scene.show("MainPID"), time.monotonic()
    time.sleep(5)  # longer than the watchdog: a node that turns is left alone
    scene.expect("MainPID", pid)
    scene.container.run(f"kill -STOP {pid}")
    scene.container.wait("another process", lambda: _serves_as_another(scene, pid))
    if not scene.log_has("Watchdog timeout"):
        raise ContainerFailed("the journal does not name the watchdog")
    if not scene.log_has("Fatal Python error: Aborted"):
        raise ContainerFailed("the journal does not say where the loop hung")
    took_s = time.monotonic() - begun_s - 5
    if not scene.download(f"http://{HOST}/payload.bin").startswith("hit"):
        raise ContainerFailed("the cache was lost")
    scene.container.run(
        "rm -r /etc/systemd/system/cacheserver.service.d; systemctl daemon-reload; systemctl restart cacheserver"
    )
    return f"back after {took_s:.1f} s with its cache"


def _serves_as_another(scene: Scene, pid: str) -> bool:
    return scene.show("MainPID") not in ("0", pid) and scene.show("SubState") == "running"


def start_again_after_a_kill(scene: Scene) -> str:
    """SIGKILL is a failure: another process serves what was stored."""
    pid = scene.show("MainPID")
    scene.container.run(f"kill -KILL {pid}")
    scene.container.wait("another process", lambda: _serves_as_another(scene, pid))
    return scene.download(f"http://{HOST}/payload.bin")


def stop_lets_answers_end(scene: Scene) -> str:
    """A download that runs while the service is stopped ends with all its bytes; nobody new is let in."""
    to = f"--connect-to {HOST}:80:127.0.0.1:80"
    slow = scene.container.start(f"curl -sS --fail --limit-rate 8M {to} http://{HOST}/payload.bin | sha256sum")
    scene.container.wait("a connection", lambda: _connections(scene) >= 1)
    stop = scene.container.start("systemctl stop cacheserver.service")
    scene.container.wait("draining", lambda: scene.show("SubState") == "stop-sigterm")
    scene.container.run(f"curl -sS --max-time 5 -o /dev/null {to} http://{HOST}/payload.bin", fails=True)
    output, _ = slow.communicate(timeout=60)
    if output.decode().split()[0] != scene.digest:
        raise ContainerFailed("the running download was cut")
    stop.communicate(timeout=60)
    for name, wanted in (("Result", "success"), ("ExecMainStatus", "0"), ("ActiveState", "inactive")):
        scene.expect(name, wanted)
    scene.container.run("systemctl start cacheserver.service")
    return "the running download had all its bytes, a new one was refused, exit 0"


def _connections(scene: Scene) -> int:
    status = json.loads(scene.container.run("curl -sS --fail http://127.0.0.1:8081/api/v1/status"))
    return int(status["connections"])


def upgrade_in_place(scene: Scene) -> str:
    """The same command again: settings and cache stay, one version is left behind, not two."""
    before = scene.container.run("readlink /opt/cacheserver")
    scene.container.run(scene.install)
    after = scene.container.run("readlink /opt/cacheserver")
    left = scene.container.run("ls -d /opt/cacheserver-*")
    if before == after or left != after:
        raise ContainerFailed(f"{before} became {after}; left: {left}")
    if not scene.download(f"https://{HOST}/payload.bin").startswith("hit"):
        raise ContainerFailed("the cache was lost")
    return "settings and cache kept, the old version removed"


def put_back_what_ran_before(scene: Scene) -> str:
    """A version that does not start is taken back: here one whose main module ends at once."""
    before = scene.container.run("readlink /opt/cacheserver")
    scene.container.run(
        f"cp -R {scene.source} /tmp/broken; "
        "printf 'raise SystemExit(1)\\n' > /tmp/broken/cacheserver/node/lifetime.py; "
        "sed -i 's/^RestartSec=.*/&\\nTimeoutStartSec=10\\nStartLimitBurst=2/' /tmp/broken/systemd/cacheserver.service"
    )
    scene.container.run(scene.install.replace(scene.source, "/tmp/broken"), fails=True)
    if scene.container.run("readlink /opt/cacheserver") != before:
        raise ContainerFailed("the broken version stayed")
    if "TimeoutStartUSec=10s" in scene.container.run("systemctl show cacheserver.service"):
        raise ContainerFailed("the broken version's unit stayed")
    return scene.download(f"http://{HOST}/payload.bin")


def serve_on_sockets_of_systemd(scene: Scene) -> str:
    """Socket activation: no capability is left, and a restart refuses no one."""
    run = scene.container.run
    run(scene.install + " --sockets")
    run("systemctl is-active cacheserver.socket cacheserver-tls.socket")
    run("systemd-analyze security --threshold=12 cacheserver.service >/dev/null")
    pid = scene.show("MainPID")
    if (capabilities := run(f"sed -n 's/^CapBnd:.//p' /proc/{pid}/status")).strip("0"):
        raise ContainerFailed(f"capabilities are left: {capabilities}")
    loop = scene.container.start(
        "for i in $(seq 40); do curl -sS --fail --max-time 20 -o /dev/null -w '%{http_code}\\n' -r 0-99 "
        f"--connect-to {HOST}:80:127.0.0.1:80 http://{HOST}/payload.bin; done"
    )
    run("systemctl restart cacheserver.service; systemctl restart cacheserver.service")
    output, _ = loop.communicate(timeout=120)
    answers = output.decode().split()
    if loop.returncode or answers != ["206"] * 40:
        raise ContainerFailed(f"a restart lost answers: {answers}")
    scene.download(f"https://{HOST}/payload.bin")
    return f"no capabilities, {len(answers)} of 40 requests answered over two restarts"


def watched_by_prometheus(scene: Scene) -> str:
    """A real Prometheus scrapes the node, with the rules of the product; an alert is armed when the node goes."""
    run = scene.container.run
    ours = f"{scene.source}/config/ -path '*/prometheus/*.yml' ! -name prometheus.yml"
    run(f"mkdir {RULES}; find {ours} -exec cp {{}} {RULES} ';'")
    if not run(f"ls {RULES}"):
        scene.container.write(f"{RULES}/own.yml", OWN_RULE)
    scene.container.write("/etc/prometheus/prometheus.yml", PROMETHEUS.format(rules=f'["{RULES}/*"]'))
    run("promtool check config /etc/prometheus/prometheus.yml >/dev/null; systemctl restart prometheus")
    scene.container.wait("a scrape", lambda: _value(scene, 'up{job="cacheserver"}') == 1)
    scene.container.wait("bytes", lambda: (_value(scene, "sum(cacheserver_requests_total)") or 0) > 0)
    rules = [rule for group in scene.ask_prometheus("rules")["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if rule["type"] == "alerting"]
    scene.container.wait("rules that were evaluated", lambda: _healthy(scene))
    run("systemctl stop cacheserver.socket cacheserver-tls.socket cacheserver.service")
    scene.container.wait("an armed alert", lambda: any(name.endswith("NodeDown") for name in _armed(scene)))
    armed = _armed(scene)
    run("systemctl start cacheserver.socket cacheserver-tls.socket cacheserver.service")
    return f"{len(alerts)} alerts loaded, armed without a node: {', '.join(sorted(armed))}"


def _armed(scene: Scene) -> set[str]:
    """Names of the alerts that are pending or firing."""
    return {alert["labels"]["alertname"] for alert in scene.ask_prometheus("alerts")["alerts"]}


def _value(scene: Scene, expression: str) -> float | None:
    try:
        result = scene.ask_prometheus(f"query?query={expression}")["result"]
    except ContainerFailed:  # it is still starting
        return None
    return float(result[0]["value"][1]) if result else None


def _healthy(scene: Scene) -> bool:
    groups = scene.ask_prometheus("rules")["groups"]
    return bool(groups) and all(rule["health"] == "ok" for group in groups for rule in group["rules"])


def remove_again(scene: Scene) -> str:
    """Uninstall keeps what is the operator's; --purge leaves nothing."""
    run = scene.container.run
    run(scene.uninstall)
    run(f"test -e {CONFIG}; test -d /var/cache/cacheserver/objects; getent passwd cacheserver")
    run("systemctl cat cacheserver.service", fails=True)
    run(scene.install)
    if not scene.download(f"http://{HOST}/payload.bin").startswith("hit"):
        raise ContainerFailed("the cache was lost")
    run(scene.uninstall + " --purge")
    left = run(
        "find / -xdev -name '*cacheserver*' -not -path '/srv/*' -not -path '/tmp/*' -not -path '/proc/*' "
        "-not -path '/var/log/journal/*' -not -path '/run/*'"
    )
    if left:
        raise ContainerFailed(f"left behind: {left}")
    return "settings, cache and user kept, then gone with --purge"


STEPS: Final[tuple[Callable[[Scene], str], ...]] = (
    install_with_one_command,
    score_as_documented,
    serve_by_both_schemes,
    reload_without_a_cut,
    start_again_after_a_hang,
    start_again_after_a_kill,
    stop_lets_answers_end,
    upgrade_in_place,
    put_back_what_ran_before,
    serve_on_sockets_of_systemd,
    watched_by_prometheus,
    remove_again,
)
