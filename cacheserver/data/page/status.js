// The status page: wires the poller, the token form and the sections together.

import { duration } from "./format.js";
import { History } from "./history.js";
import { Poller } from "./poller.js";
import { byId, setText, show } from "./rows.js";
import * as sections from "./sections.js";

const VISIBLE_ASCII = /^[\x21-\x7e]+$/;
const history = new History();
let latest = null;

function state(text, className) {
  const pill = byId("state");
  setText(pill, text);
  if (pill.className !== `pill ${className}`) pill.className = `pill ${className}`;
}

function render(overview) {
  const rates = history.now();
  sections.tiles(overview, rates, history);
  sections.trafficChart(history);
  sections.services(overview, rates);
  sections.subnets(overview, rates);
  for (const name of ["restart", "outcomes", "volumes", "fills", "refusals", "bans", "pins", "certificate"]) {
    sections[name](overview);
  }
}

function onOverview(overview) {
  latest = overview;
  history.add(overview);
  show(byId("trouble"), false);
  show(byId("token-form"), false);
  show(byId("main"), true);
  show(byId("pause"), true);
  show(byId("forget"), poller.token.kept !== "");
  state(overview.ready ? "ready" : overview.reasons.join("; "), overview.ready ? "good" : "bad");
  setText(byId("about"), `version ${overview.node.version}, running for ${duration(overview.clock_s)}`);
  render(overview);
}

function onTrouble(text, seconds) {
  state("no answer", "bad");
  const shown = latest ? " What is shown is what it said last." : "";
  setText(byId("trouble"), `Trouble: ${text}. Trying again in ${duration(seconds)}.${shown}`);
  show(byId("trouble"), true);
}

function onTokenNeeded(refused) {
  latest = null;
  history.readings = [];
  state("token needed", "");
  setText(byId("about"), "");
  setText(byId("token-trouble"), refused ? "The node did not accept this token." : "");
  for (const id of ["main", "trouble", "restart", "pause", "forget"]) show(byId(id), false);
  show(byId("token-form"), true);
  byId("token").focus();
}

const poller = new Poller({ onOverview, onTrouble, onTokenNeeded });

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = byId("token");
  const text = field.value.trim();
  field.value = "";
  if (VISIBLE_ASCII.test(text)) {
    setText(byId("token-trouble"), "");
    poller.useToken(text);
  } else {
    setText(byId("token-trouble"), "A token has visible ASCII characters only.");
  }
});

byId("pause").addEventListener("click", () => {
  const paused = byId("pause").getAttribute("aria-pressed") !== "true";
  byId("pause").setAttribute("aria-pressed", String(paused));
  if (paused) state("paused", "");
  poller.pause(paused);
});

byId("forget").addEventListener("click", () => poller.forgetToken());

new ResizeObserver(() => latest && sections.trafficChart(history)).observe(byId("traffic"));
setText(byId("address"), location.host);
poller.goOn();
