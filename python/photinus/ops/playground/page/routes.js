/** The game's routes: a list to choose from, and the form of the one that is chosen. */

import { h } from "./element.js";
import { Form, signatureOf } from "./form.js";

export class Routes {
    /** @param send called with the route's name, a kind (`request`, `notify`), bytes, and the form */
    constructor(send) {
        this.send = send;
        this.speaker = "";
        this.forms = new Map();
        this.items = new Map();
        this.search = h("input", {
            type: "search",
            placeholder: "Routes",
            "aria-label": "Filter the routes",
            oninput: () => this.#filter(),
        });
        this.list = h("div", {
            class: "routes",
            onkeydown: (event) => this.#keys(event),
        });
        this.element = h(
            "nav",
            { "aria-label": "Routes" },
            h("div", { class: "search" }, this.search, h("kbd", {}, "/")),
            this.list,
        );
        this.detail = h("section", { class: "detail", "aria-label": "Route" });
    }

    /** The routes as they are now. What was typed stays where it fits; `marks` tell what an edit did to which. */
    show({ routes, types }, marks = new Map()) {
        const forms = this.forms;
        const focused = document.activeElement;
        this.forms = new Map();
        this.items = new Map();
        const named = [];
        const others = [];
        for (const route of routes) {
            const key = idOf(route);
            const before = forms.get(key);
            let form = before;
            if (before?.signature !== signatureOf(route, types)) {
                form = new Form(route, types, (kind, bytes) => this.send(route.key, kind, bytes, this.forms.get(key)));
                if (before !== undefined) {
                    form.restore(before.draft());
                }
            }
            form.as.textContent = this.speaker;
            this.forms.set(key, form);
            const item = this.#item(route, key, marks.get(nameOf(route)));
            this.items.set(key, { item, route });
            (typeof route.key === "string" ? named : others).push(item);
        }
        this.list.replaceChildren(
            ...named,
            ...(others.length > 0 ? [h("h3", {}, "Other protocols"), ...others] : []),
            ...(routes.length === 0 ? [h("p", { class: "empty" }, "This game has no routes yet.")] : []),
        );
        this.#filter();
        const chosen = this.items.has(this.chosen) ? this.chosen : this.items.keys().next().value;
        this.choose(chosen, false);
        if (focused !== null && focused !== document.activeElement && focused.isConnected) {
            focused.focus();
        }
    }

    choose(key, focus = true) {
        const entry = this.items.get(key);
        if (entry === undefined) {
            this.detail.replaceChildren();
            return;
        }
        this.chosen = key;
        for (const [other, { item }] of this.items) {
            item.setAttribute("aria-current", String(other === key));
        }
        const form = this.forms.get(key);
        const { route } = entry;
        const head = h(
            "header",
            {},
            h("h2", {}, nameOf(route)),
            h(
                "p",
                { class: "facts" },
                who(route),
                h("span", {}, route.message ?? "bytes"),
                rate(route),
                route.secret && h("span", { title: "Its answers are never compressed" }, "secret"),
                h("span", { class: "place" }, route.place),
            ),
            route.doc && h("p", { class: "doc" }, route.doc),
            route.problem &&
                h("p", { class: "note" }, `Its message has no JSON schema, so there is no form: ${route.problem}`),
            typeof route.key !== "string" && h("p", { class: "note" }, otherProtocol(route)),
        );
        if (this.detail.lastElementChild === form.element) {
            // What has the focus keeps it.
            this.detail.firstElementChild.replaceWith(head);
        } else {
            this.detail.replaceChildren(head, form.element);
        }
        if (focus) {
            form.focus();
        }
    }

    /** Says at each form whose session it is sent on. */
    speakAs(who) {
        this.speaker = who;
        for (const form of this.forms.values()) {
            form.as.textContent = who;
        }
    }

    fill(key, payload) {
        this.choose(key);
        this.forms.get(key)?.fill(payload);
    }

    #item(route, key, mark) {
        return h(
            "button",
            {
                type: "button",
                class: "item",
                title: route.doc,
                onclick: () => this.choose(key),
            },
            h("span", { class: "key" }, nameOf(route)),
            mark && h("span", { class: `mark ${mark}` }, mark),
            h("span", { class: "what" }, route.message ?? "bytes"),
            who(route),
        );
    }

    #filter() {
        const words = this.search.value.toLowerCase();
        for (const [key, { item, route }] of this.items) {
            item.hidden = !`${key} ${route.message ?? ""}`.toLowerCase().includes(words);
        }
    }

    #keys(event) {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step === undefined) {
            return;
        }
        event.preventDefault();
        const shown = [...this.items].filter(([, { item }]) => !item.hidden);
        const at = shown.findIndex(([, { item }]) => item === document.activeElement);
        const next = shown[at + step];
        if (next !== undefined) {
            this.choose(next[0], false);
            next[1].item.focus();
        }
    }
}

/** A name and a number may look alike. */
function idOf({ key }) {
    return typeof key === "number" ? `#${key}` : (key ?? "(default)");
}

/** As the terminal names it. */
function nameOf({ key }) {
    return key === null ? "(default)" : String(key);
}

function who(route) {
    const text = route.who === "roles" ? route.roles.join(", ") : route.who;
    return h("span", { class: `who ${route.who.replace(" ", "-")}`, title: "Who may call it" }, text);
}

function rate({ rate }) {
    return rate && h("span", { title: "For each session" }, `${rate.count} in ${rate.per} s, ${rate.at_once} at once`);
}

function otherProtocol({ key }) {
    const whose =
        key === null
            ? "The default handler is for packets without a route: clients of the length and Firefly protocols come here."
            : "Clients of the Firefly protocol call this by its number.";
    return `${whose} This page speaks the photinus protocol, which calls routes by their names.`;
}
