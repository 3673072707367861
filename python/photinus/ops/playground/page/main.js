/** The page as a whole: what the game is, what became of it, and what is sent by whom. */

import { h } from "./element.js";
import { Refused } from "./photinus.js";
import { Players } from "./players.js";
import { Routes } from "./routes.js";

/** Where what was typed outlasts a restart of the game. */
const STORE = "photinus playground";

const players = new Players(
    (route, payload) => routes.fill(route, payload),
    (number) => routes.speakAs(`as player ${number}`),
);
const routes = new Routes(send);
const status = h("div", { class: "status", role: "status" });
const name = h("span", { class: "game" });
let process;
let last = 0;

document.body.append(
    h(
        "header",
        { class: "top" },
        h("img", { src: "icon.svg", alt: "", width: 26, height: 26 }),
        h("h1", {}, "Photinus", h("span", {}, "playground")),
        name,
        status,
    ),
    h("main", {}, routes.element, routes.detail, players.element),
);

document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && !typing) {
        event.preventDefault();
        routes.search.focus();
    } else if (event.altKey && /^[1-9]$/.test(event.key) && players.views[event.key - 1] !== undefined) {
        event.preventDefault();
        players.select(event.key - 1);
    }
});

async function send(route, kind, bytes, form) {
    const { player } = players.current;
    form.forgive();
    if (!player.alive) {
        form.complain("This player has no session: Connect first.");
    } else if (kind === "notify") {
        player.notify(route, bytes);
    } else {
        form.requests += 1;
        const number = form.requests;
        const error = await player.request(route, bytes);
        if (number === form.requests && error instanceof Refused) {
            form.blame(error);
        }
    }
}

async function look(marks) {
    const game = await (await fetch("game.json")).json();
    name.textContent = game.name;
    document.title = `${game.name} · playground`;
    routes.show(game, marks);
    if (players.views.length === 0) {
        restore();
        players.start(game.connect);
    }
}

/** What the game's process tells: that it runs, and what came of each save. */
const events = new EventSource("events");
events.onmessage = async ({ data }) => {
    const told = JSON.parse(data);
    if (process !== undefined && process !== told.process) {
        // Another process listens elsewhere, and what this page may connect to was said with the page.
        keep();
        location.reload();
        return;
    }
    const known = process !== undefined && told.save === last;
    process = told.process;
    last = told.save;
    if (told.kind === "failed") {
        say("bad", told.text.replace(/:.*/s, ""), told.text, told.error);
        if (players.views.length === 0) {
            await look();
        }
        return;
    }
    const marks = new Map();
    for (const what of ["added", "changed"]) {
        for (const key of told[what] ?? []) {
            marks.set(key, what);
        }
    }
    if (!known || players.views.length === 0) {
        await look(marks);
    }
    const at = new Date().toLocaleTimeString(undefined, { hour12: false });
    say("good", told.kind === "started" ? "live: save a file, and it is in play" : `${at} ${told.text}`);
};
events.onerror = () => say("warn", "photinus dev does not answer; this page waits for it");

function say(tone, text, title = text, error = "") {
    status.className = `status ${tone}`;
    const line = [h("span", { class: "dot" }), h("span", { class: "text", title }, text)];
    status.replaceChildren(
        ...(error === "" ? line : [h("details", { open: true }, h("summary", {}, ...line), h("pre", {}, error))]),
    );
}

function keep() {
    const payloads = [...routes.forms].map(([key, form]) => [key, new TextDecoder().decode(form.bytes())]);
    sessionStorage.setItem(STORE, JSON.stringify({ chosen: routes.chosen, payloads }));
}

function restore() {
    const kept = JSON.parse(sessionStorage.getItem(STORE) ?? "{}");
    sessionStorage.removeItem(STORE);
    for (const [key, text] of kept.payloads ?? []) {
        let value;
        try {
            value = JSON.parse(text);
        } catch {
            continue;
        }
        routes.forms.get(key)?.fill({ kind: "json", value, text });
    }
    routes.choose(kept.chosen ?? routes.chosen, false);
}
