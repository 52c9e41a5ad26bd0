// Asks the node for its overview again and again: every 2 s, less often while it does not answer, never while paused
// or out of sight. The token is kept in this tab's session storage and sent as a header only.

const EVERY_MS = 2000;
const LONGEST_MS = 30000;
const PATIENCE_MS = 15000;
const NAME = "cacheserver-token";
const URL_ = "api/v1/overview";

class Token {
  constructor() {
    this.kept = "";
    try {
      this.kept = sessionStorage.getItem(NAME) ?? "";
    } catch {
      // Storage is switched off: the token lives as long as the page.
    }
  }

  set(text) {
    this.kept = text;
    try {
      if (text) sessionStorage.setItem(NAME, text);
      else sessionStorage.removeItem(NAME);
    } catch {
      // The same.
    }
  }
}

export class Poller {
  // onOverview(overview), onTrouble(text, seconds until the next try), onTokenNeeded(whether one was refused).
  constructor({ onOverview, onTrouble, onTokenNeeded }) {
    this.token = new Token();
    this.paused = false;
    this.waiting = false;
    this.asking = false;
    this.failures = 0;
    this.timer = 0;
    this.tell = { onOverview, onTrouble, onTokenNeeded };
    document.addEventListener("visibilitychange", () => this.goOn());
  }

  useToken(text) {
    this.token.set(text);
    this.waiting = false;
    this.goOn();
  }

  forgetToken() {
    this.token.set("");
    this.needToken(false);
  }

  pause(paused) {
    this.paused = paused;
    this.goOn();
  }

  goOn() {
    clearTimeout(this.timer);
    if (!this.paused && !this.waiting && !this.asking && !document.hidden) this.ask();
  }

  needToken(refused) {
    clearTimeout(this.timer);
    this.waiting = true;
    this.tell.onTokenNeeded(refused);
  }

  async ask() {
    this.asking = true;
    const used = this.token.kept;
    let next = EVERY_MS;
    try {
      const headers = used ? { Authorization: `Bearer ${used}` } : {};
      const signal = AbortSignal.timeout(PATIENCE_MS);
      const answer = await fetch(URL_, { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
      const body = await answer.json();
      if (used !== this.token.kept) {
        next = 0;
      } else if (answer.status === 401) {
        this.token.set("");
        this.needToken(used !== "");
        return;
      } else if (!answer.ok) {
        throw new Error(`the node answers ${answer.status}: ${body.error ?? "no reason given"}`);
      } else {
        this.failures = 0;
        if (!this.paused) this.tell.onOverview(body);
      }
    } catch (error) {
      next = Math.min(EVERY_MS * 2 ** this.failures, LONGEST_MS);
      this.failures += 1;
      const plain = error instanceof Error && error.message.startsWith("the node answers");
      this.tell.onTrouble(plain ? error.message : "the node does not answer", next / 1000);
    } finally {
      this.asking = false;
      clearTimeout(this.timer);
      if (!this.waiting) this.timer = setTimeout(() => this.goOn(), next);
    }
  }
}
