/** One player: a session of the game's over one connection after the other, and all that was said on it. */

import { readPayload } from "./json.js";
import { Line } from "./line.js";
import { connect, Kicked, Refused } from "./photinus.js";

/** Milliseconds: as long as somebody may want to look at a connection that is cut. */
const PATIENCE = 3600 * 1000;

export class Player {
    /** `connecting`, `waiting`, `connected`, `cut`, `reconnecting` or `ended`. */
    state = "ended";
    /** What the state is about, for people. */
    about = "";
    #client;
    #line = new Line();
    #cutAt;

    /**
     * @param number 1, 2, …
     * @param tell called with each thing to be shown: { kind, at, route?, payload?, text?, … }
     * @param changed called when the state is another
     */
    constructor(number, url, tell, changed) {
        this.number = number;
        this.url = url;
        this.tell = (entry) => tell({ at: new Date(), ...entry });
        this.changed = changed;
    }

    get roundTrip() {
        return this.#client?.connected ? this.#client.roundTrip : undefined;
    }

    get alive() {
        return this.#client !== undefined;
    }

    async connect() {
        this.#line = new Line();
        this.#become("connecting");
        let client;
        try {
            client = await connect(this.url, {
                name: `playground, player ${this.number}`,
                timeout: PATIENCE,
                requestTimeout: PATIENCE,
                webSocket: this.#line.make,
                onWait: (wait) => this.#waits(wait),
            });
        } catch (error) {
            this.#end(error);
            return;
        }
        this.#client = client;
        this.#become("connected");
        this.tell({ kind: "event", text: "connected: a new session" });
        client.when("push", ({ route, payload }) => this.tell({ kind: "push", route, payload: readPayload(payload) }));
        client.when("wait", (wait) => this.#waits(wait));
        client.when("reconnecting", ({ reason }) => {
            this.#cutAt ??= performance.now();
            if (this.state === "connected") {
                const what = this.#line.cut ? "you cut the connection" : `the connection is gone (${reason})`;
                this.tell({
                    kind: "event",
                    tone: "warn",
                    text: `${what}; the session is kept`,
                });
            }
            this.#become(this.#line.cut ? "cut" : "reconnecting");
        });
        let lost = 0;
        client.when("gap", (gap) => {
            lost = gap.lost;
        });
        client.when("resumed", () => {
            const after = ((performance.now() - (this.#cutAt ?? performance.now())) / 1000).toFixed(1);
            this.#cutAt = undefined;
            this.#become("connected");
            const what = lost === 0 ? "nothing was lost" : `a gap: ${lost} of the server's messages were lost`;
            this.tell({
                kind: "event",
                tone: lost === 0 ? "good" : "bad",
                text: `resumed after ${after} s: ${what}`,
            });
            lost = 0;
        });
        client.when("redirected", ({ url }) => this.tell({ kind: "event", tone: "warn", text: `sent to ${url}` }));
        client.when("renewed", () => {
            this.#become("connected");
            this.tell({
                kind: "event",
                tone: "warn",
                text: "a new session: log in again",
            });
        });
        client.when("closed", ({ error }) => this.#end(error));
    }

    /** Cuts the connection, and leaves the session to be resumed. */
    cut() {
        this.#line.sever();
    }

    mend() {
        this.#line.mend();
        this.#become("reconnecting");
    }

    /** Ends the session. */
    async leave() {
        await this.#client?.close();
    }

    /** Error: what the server or the way to it did not allow, to be shown at the form. */
    async request(route, bytes) {
        const began = performance.now();
        const payload = readPayload(bytes);
        this.tell({
            kind: "request",
            route,
            payload,
            kept: this.state !== "connected",
        });
        try {
            const answer = await this.#client.request(route, bytes, { raw: true });
            this.tell({
                kind: "reply",
                route,
                took: performance.now() - began,
                payload: readPayload(answer),
            });
            return undefined;
        } catch (error) {
            const took = performance.now() - began;
            if (error instanceof Refused) {
                const { msg, ...fields } = error.fields;
                this.tell({
                    kind: "error",
                    route,
                    took,
                    code: error.code,
                    text: msg === error.code ? "" : msg,
                    fields,
                });
            } else {
                this.tell({
                    kind: "error",
                    route,
                    took,
                    code: error.name,
                    text: error.message,
                    fields: {},
                });
            }
            return error;
        }
    }

    notify(route, bytes) {
        try {
            this.#client.notify(route, bytes);
            this.tell({
                kind: "notify",
                route,
                payload: readPayload(bytes),
                kept: this.state !== "connected",
            });
        } catch (error) {
            this.tell({
                kind: "error",
                route,
                code: error.name,
                text: error.message,
                fields: {},
            });
        }
    }

    #waits({ place, estimate }) {
        const until = estimate === undefined ? "" : `, some ${(estimate / 1000).toFixed(0)} s`;
        this.#become("waiting", `place ${place} in line${until}`);
    }

    #end(error) {
        this.#client = undefined;
        this.#cutAt = undefined;
        const text =
            error === undefined
                ? "left: the session has ended"
                : error instanceof Kicked
                  ? `kicked: ${error.reason}`
                  : `the session is gone: ${error.message}`;
        this.#become("ended", text);
        this.tell({
            kind: "event",
            tone: error === undefined ? "plain" : "bad",
            text,
        });
    }

    #become(state, about = "") {
        this.state = state;
        this.about = about;
        this.changed();
    }
}
