/** JSON that keeps integers of any size, written in one line, in several, and as a tree that folds. */

import { h } from "./element.js";

/** A tree is open down to here. */
const OPEN_DEPTH = 2;
/** What an array or a map shows at once; the rest comes when it is asked for. */
const ITEMS_AT_ONCE = 100;

/** Integers that a number would round are BigInts. SyntaxError if it is no JSON. */
export function parse(text) {
    return JSON.parse(text, (_key, value, context) => {
        const source = context?.source;
        const rounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
        return rounded && source !== undefined && /^-?\d+$/.test(source) ? BigInt(source) : value;
    });
}

/** Without an indent: in one line. */
export function write(value, indent = "", margin = "") {
    if (typeof value === "bigint") {
        return String(value);
    }
    if (value === null || typeof value !== "object") {
        return JSON.stringify(value) ?? "null";
    }
    const isArray = Array.isArray(value);
    const inner = margin + indent;
    const items = isArray
        ? value.map((item) => write(item, indent, inner))
        : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${write(item, indent, inner)}`);
    const [opening, closing] = isArray ? "[]" : "{}";
    if (items.length === 0 || indent === "") {
        return opening + items.join(", ") + closing;
    }
    return `${opening}\n${inner}${items.join(`,\n${inner}`)}\n${margin}${closing}`;
}

/** A payload: what it says as JSON, or its text, or how many bytes it has. */
export function readPayload(bytes) {
    if (bytes.length === 0) {
        return { kind: "nothing", preview: "nothing" };
    }
    let text;
    try {
        text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
        const hex = Array.from(bytes.subarray(0, 256), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
        return {
            kind: "bytes",
            preview: `${bytes.length} bytes: ${hex}`,
            text: hex,
        };
    }
    try {
        const value = parse(text);
        return { kind: "json", preview: write(value), value, text };
    } catch {
        return { kind: "text", preview: text, text };
    }
}

export function tree(value, depth = 0) {
    if (value === null || typeof value !== "object") {
        const kind = value === null ? "null" : typeof value;
        return h("span", { class: `json-${kind}` }, typeof value === "bigint" ? String(value) : JSON.stringify(value));
    }
    const isArray = Array.isArray(value);
    const entries = isArray ? value.map((item) => [undefined, item]) : Object.entries(value);
    const [opening, closing] = isArray ? "[]" : "{}";
    if (entries.length === 0) {
        return h("span", { class: "json-empty" }, opening + closing);
    }
    const list = h("ul", {});
    const show = (from) => {
        for (const [key, item] of entries.slice(from, from + ITEMS_AT_ONCE)) {
            const name = key === undefined ? [] : [h("span", { class: "json-key" }, key), ": "];
            list.append(h("li", {}, ...name, tree(item, depth + 1)));
        }
        const left = entries.length - from - ITEMS_AT_ONCE;
        if (left > 0) {
            const more = h("button", { class: "link", type: "button" }, `${left} more`);
            const line = h("li", {}, more);
            more.addEventListener("click", () => {
                line.remove();
                show(from + ITEMS_AT_ONCE);
            });
            list.append(line);
        }
    };
    show(0);
    const count = isArray ? `${entries.length}` : "";
    const summary = h("summary", {}, opening, h("span", { class: "json-folded" }, `${count}…${closing}`));
    const details = h("details", { class: "json", open: depth < OPEN_DEPTH }, summary, list);
    details.append(h("span", { class: "json-closing" }, closing));
    return details;
}
