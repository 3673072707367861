/** The players of this page, each with a tab, a connection and a log; several of them side by side, if one likes. */

import { fresh, h } from "./element.js";
import { inMilliseconds, Log } from "./log.js";
import { Player } from "./player.js";

/** Milliseconds between two looks at the round-trip times. */
const LOOK_MS = 1000;
/** More than one person can play at once. */
const PLAYERS_MAX = 8;

const STATES = {
    connecting: "connecting",
    waiting: "waiting",
    connected: "connected",
    cut: "cut; the session is kept",
    reconnecting: "reconnecting",
    ended: "no session",
};

export class Players {
    /**
     * @param again called with a route and a payload, to be put into its form
     * @param chosen called with the number of the player that speaks from now on
     */
    constructor(again, chosen) {
        this.again = again;
        this.chosen = chosen;
        this.views = [];
        this.tabs = h("div", {
            class: "tabs",
            role: "tablist",
            "aria-label": "Players",
            onkeydown: (event) => this.#keys(event),
        });
        this.more = h(
            "button",
            {
                type: "button",
                class: "add",
                title: "Another player",
                onclick: () => this.add(),
            },
            "+ player",
        );
        this.beside = h(
            "button",
            {
                type: "button",
                class: "quiet beside",
                "aria-pressed": "false",
                onclick: () => this.#showAll(),
            },
            "Side by side",
        );
        this.panels = h("div", { class: "panels" });
        this.element = h(
            "section",
            { class: "players", "aria-label": "Sessions" },
            h("div", { class: "tabbar" }, this.tabs, this.more, this.beside),
            this.panels,
        );
        setInterval(() => {
            for (const view of this.views) {
                view.showRoundTrip();
            }
        }, LOOK_MS);
    }

    get current() {
        return this.views[this.at];
    }

    start(url) {
        this.url = url;
        this.add();
    }

    add() {
        const view = new View(this.views.length + 1, this.url, this.again, () => this.select(this.views.indexOf(view)));
        this.views.push(view);
        this.tabs.append(view.tab);
        this.panels.append(view.panel);
        this.select(this.views.length - 1);
        this.more.disabled = this.views.length >= PLAYERS_MAX;
        this.beside.hidden = this.views.length < 2;
        void view.player.connect();
    }

    select(at) {
        this.at = at;
        for (const [each, view] of this.views.entries()) {
            view.select(each === at);
        }
        this.chosen(at + 1);
    }

    #showAll() {
        const all = this.panels.classList.toggle("all");
        this.beside.setAttribute("aria-pressed", String(all));
    }

    #keys(event) {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step !== undefined) {
            this.select((this.at + step + this.views.length) % this.views.length);
            this.current.tab.focus();
        }
    }
}

class View {
    constructor(number, url, again, chosen) {
        this.log = new Log(again);
        this.player = new Player(
            number,
            url,
            (entry) => this.log.add(entry),
            () => this.#show(),
        );
        const [tab, panel] = [fresh("tab"), fresh("panel")];
        this.tab = h(
            "button",
            {
                type: "button",
                role: "tab",
                id: tab,
                "aria-controls": panel,
                onclick: chosen,
            },
            h("span", { class: "dot" }),
            `player ${number}`,
        );
        this.state = h("span", { class: "state" });
        this.way = h("span", {
            class: "way",
            title: "To the server and back, by the last heartbeat",
        });
        const button = (name, title, act) => h("button", { type: "button", title, onclick: act }, name);
        this.cut = button("Cut the connection", "As a network does it: the session is kept, and can be resumed", () =>
            this.player.cut(),
        );
        this.mend = button("Reconnect", "Resume the session over a new connection", () => this.player.mend());
        this.leave = button("Leave", "End the session", () => void this.player.leave());
        this.enter = button("Connect", "A new session", () => void this.player.connect());
        this.panel = h(
            "div",
            {
                class: "panel",
                role: "tabpanel",
                id: panel,
                "aria-labelledby": tab,
                onfocusin: chosen,
                onpointerdown: chosen,
            },
            h(
                "div",
                { class: "connection" },
                h("span", { class: "who" }, h("span", { class: "dot" }), `player ${number}`),
                this.state,
                this.way,
                h("span", { class: "gap" }),
                this.cut,
                this.mend,
                this.enter,
                this.leave,
            ),
            this.log.element,
        );
        this.#show();
    }

    select(chosen) {
        this.tab.setAttribute("aria-selected", String(chosen));
        this.tab.tabIndex = chosen ? 0 : -1;
        this.panel.classList.toggle("chosen", chosen);
    }

    showRoundTrip() {
        const { roundTrip } = this.player;
        this.way.textContent = roundTrip === undefined ? "" : inMilliseconds(roundTrip);
    }

    #show() {
        const { state, about, alive } = this.player;
        this.panel.dataset.state = state;
        this.tab.dataset.state = state;
        this.state.textContent = state === "waiting" ? about : STATES[state];
        this.cut.hidden = state !== "connected" && state !== "reconnecting";
        this.mend.hidden = state !== "cut";
        this.leave.hidden = !alive;
        this.enter.hidden = state !== "ended";
        this.showRoundTrip();
    }
}
