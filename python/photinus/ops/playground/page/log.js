/** What was said on one session, the newest at the end; it can be narrowed by kind, by route and by words. */

import { h } from "./element.js";
import { tree, write } from "./json.js";

/** Entries that are kept; some minutes of a lively game, and what a browser still lays out quickly. */
const ENTRIES_MAX = 1000;
/** Pixels from the end at which the log follows what comes. */
const NEAR_END = 40;
const SIGNS = {
    request: "→",
    notify: "→",
    reply: "←",
    error: "←",
    push: "⇠",
    event: "•",
};
const WORDS = {
    request: "request",
    notify: "notify",
    reply: "reply",
    error: "error",
    push: "push",
    event: "",
};

export class Log {
    /** @param again called with a route and a payload, to be put into its form */
    constructor(again) {
        this.again = again;
        this.hidden = new Set();
        this.counts = new Map();
        this.list = h("ol", {
            class: "entries",
            role: "log",
            "aria-label": "What comes and goes",
            tabindex: 0,
        });
        this.empty = h("p", { class: "empty" }, "Nothing yet. Choose a route, fill in its form, and send it.");
        this.search = h("input", {
            type: "search",
            placeholder: "Filter",
            "aria-label": "Filter the log",
            oninput: () => this.#filter(),
        });
        this.chips = h("div", {
            class: "chips",
            role: "group",
            "aria-label": "Shown",
        });
        const clear = h("button", { type: "button", class: "quiet", onclick: () => this.clear() }, "Clear");
        this.bar = h("div", { class: "filters" }, this.chips, this.search, clear);
        this.element = h("div", { class: "log" }, this.bar, this.list, this.empty);
        for (const name of ["calls", "events"]) {
            this.#chip(name, name);
        }
    }

    add(entry) {
        const follows = this.list.scrollHeight - this.list.scrollTop - this.list.clientHeight < NEAR_END;
        const row = this.#row(entry);
        this.list.append(row);
        this.empty.hidden = true;
        if (this.list.childElementCount > ENTRIES_MAX) {
            this.list.firstElementChild.remove();
        }
        const group = row.dataset.group;
        if (entry.kind === "push" && !this.counts.has(group)) {
            this.#chip(group, entry.route, "push");
        }
        this.counts.set(group, (this.counts.get(group) ?? 0) + 1);
        const chip = [...this.chips.children].find((each) => each.dataset.group === group);
        chip.querySelector(".count").textContent = this.counts.get(group);
        this.#show(row);
        if (follows) {
            this.list.scrollTop = this.list.scrollHeight;
        }
    }

    clear() {
        this.list.replaceChildren();
        this.empty.hidden = false;
        for (const count of this.chips.querySelectorAll(".count")) {
            count.textContent = "";
        }
        this.counts = new Map([...this.counts.keys()].map((group) => [group, 0]));
    }

    #chip(group, name, kind = "") {
        const chip = h(
            "button",
            {
                type: "button",
                class: `chip ${kind}`,
                "data-group": group,
                "aria-pressed": "true",
                title: "Show or hide",
                onclick: () => {
                    const shown = this.hidden.delete(group);
                    if (!shown) {
                        this.hidden.add(group);
                    }
                    chip.setAttribute("aria-pressed", String(shown));
                    this.#filter();
                },
            },
            name,
            h("span", { class: "count" }),
        );
        this.chips.append(chip);
    }

    #row(entry) {
        const { kind, at, route, payload, took, code, text, fields, tone } = entry;
        const time = at.toLocaleTimeString(undefined, {
            hour12: false,
            hour: "2-digit",
            minute: "2-digit",
            second: "2-digit",
        });
        const preview =
            kind === "error"
                ? [h("b", {}, code), text ? ` ${text}` : "", Object.keys(fields).length > 0 ? ` ${write(fields)}` : ""]
                : (payload?.preview ?? text);
        const head = [
            h(
                "time",
                { datetime: at.toISOString(), title: at.toISOString() },
                time,
                h("span", {}, `.${String(at.getMilliseconds()).padStart(3, "0")}`),
            ),
            h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[kind]),
            kind !== "event" && h("span", { class: "kind" }, WORDS[kind]),
            route !== undefined && h("span", { class: "route" }, route),
            h("span", { class: "preview" }, preview),
            entry.kept && h("span", { class: "took" }, "kept until connected"),
            took !== undefined && h("span", { class: "took" }, inMilliseconds(took)),
        ];
        const group = kind === "push" ? `push ${route}` : kind === "event" ? "events" : "calls";
        const attributes = {
            class: `entry ${kind} ${tone ?? ""}`,
            "data-group": group,
        };
        if (kind === "event") {
            return h("li", attributes, h("div", { class: "summary" }, ...head));
        }
        const details = h("details", {}, h("summary", {}, ...head));
        // Made when somebody looks.
        details.addEventListener("toggle", () => details.childElementCount === 1 && details.append(this.#body(entry)), {
            once: true,
        });
        return h("li", attributes, details);
    }

    #body({ kind, route, payload, code, text, fields }) {
        const value = kind === "error" ? { code, ...(text ? { msg: text } : {}), ...fields } : payload.value;
        const isTree = kind === "error" || payload.kind === "json";
        const shown = isTree ? tree(value) : h("pre", {}, payload.text ?? "nothing");
        const plain = isTree ? write(value, "  ") : (payload.text ?? "");
        const copy = h("button", { type: "button", class: "quiet" }, "Copy");
        copy.addEventListener("click", async () => {
            await navigator.clipboard.writeText(plain);
            copy.textContent = "Copied";
        });
        const again =
            (kind === "request" || kind === "notify") &&
            h(
                "button",
                {
                    type: "button",
                    class: "quiet",
                    onclick: () => this.again(route, payload),
                },
                "Put into the form",
            );
        return h("div", { class: "body" }, shown, h("div", { class: "actions" }, copy, again));
    }

    #filter() {
        for (const row of this.list.children) {
            this.#show(row);
        }
    }

    #show(row) {
        const words = this.search.value.toLowerCase();
        row.hidden =
            this.hidden.has(row.dataset.group) || (words !== "" && !row.textContent.toLowerCase().includes(words));
    }
}

export function inMilliseconds(value) {
    return value < 10
        ? `${value.toFixed(1)} ms`
        : value < 10_000
          ? `${value.toFixed(0)} ms`
          : `${(value / 1000).toFixed(1)} s`;
}
