/** The form of one route: fields or JSON, what the server has against them, and the buttons that send. */

import { h } from "./element.js";
import { fieldFor } from "./fields.js";
import { parse, write } from "./json.js";
import { ABSENT } from "./leaves.js";
import { signature } from "./schema.js";

export class Form {
    /**
     * @param send called with a kind, `request` or `notify`, and the bytes
     */
    constructor(route, types, send) {
        this.requests = 0;
        this.signature = signatureOf(route, types);
        this.field = route.schema === null ? undefined : fieldFor(route.schema, types);
        this.raw = this.field === undefined;
        this.trouble = h("p", { class: "trouble", role: "alert", hidden: true });
        this.code = h("textarea", {
            class: "code",
            rows: 6,
            spellcheck: "false",
            "aria-label": "Payload",
        });
        this.code.placeholder =
            route.message === null ? "The payload's bytes, as text" : "JSON, sent exactly as it stands";
        this.fields = h("div", { class: "fields" }, this.field?.element);
        const mode = (raw, name) =>
            h(
                "button",
                {
                    type: "button",
                    "aria-pressed": String(raw === this.raw),
                    onclick: () => this.show(raw),
                },
                name,
            );
        this.modes = [mode(false, "Form"), mode(true, "JSON")];
        const callable = typeof route.key === "string";
        const button = (kind, name, title) =>
            h(
                "button",
                {
                    type: "button",
                    class: kind,
                    title,
                    disabled: !callable,
                    onclick: () => send(kind, this.bytes()),
                },
                name,
            );
        this.buttons = [
            button("request", "Request", "Send it, and show the answer (Ctrl and Enter)"),
            button("notify", "Notify", "Send it; it is not answered (Ctrl, Shift and Enter)"),
        ];
        /** Whose session it is sent on. */
        this.as = h("span", { class: "as" });
        this.element = h(
            "form",
            {
                onsubmit: (event) => event.preventDefault(),
                oninput: () => this.forgive(),
                onkeydown: (event) => {
                    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && callable) {
                        event.preventDefault();
                        send(event.shiftKey ? "notify" : "request", this.bytes());
                    }
                },
            },
            this.field && h("div", { class: "modes", role: "group", "aria-label": "How it is written" }, ...this.modes),
            h("fieldset", { disabled: !callable }, this.fields, this.code),
            this.trouble,
            h(
                "div",
                { class: "send" },
                ...this.buttons,
                this.as,
                h("span", { class: "keys" }, h("kbd", {}, "Ctrl"), h("kbd", {}, "Enter")),
            ),
        );
        this.show(this.raw);
    }

    bytes() {
        return new TextEncoder().encode(this.raw ? this.code.value : write(this.field.read()));
    }

    /** Fields or JSON; what was written in one is in the other, if it fits. */
    show(raw) {
        if (raw && !this.raw) {
            this.code.value = write(this.field.read(), "  ");
        } else if (!raw && this.raw) {
            try {
                if (!this.field.write(parse(this.code.value))) {
                    throw new TypeError("it is no map with these fields");
                }
            } catch (error) {
                this.complain(`this cannot be shown as a form: ${error.message}`);
                return;
            }
        }
        this.raw = raw;
        this.forgive();
        this.fields.hidden = raw;
        this.code.hidden = !raw;
        this.modes[0].setAttribute("aria-pressed", String(!raw));
        this.modes[1].setAttribute("aria-pressed", String(raw));
    }

    /** A payload that was sent before. */
    fill(payload) {
        if (!this.raw && payload.kind === "json" && this.field.write(payload.value)) {
            return;
        }
        this.show(true);
        this.code.value = payload.text ?? "";
    }

    /** The error answer to the last request; what it has against one field stands at that field. */
    blame(error) {
        const said = /^(.*?) - at `(?:key in )?\$([^`]*)`$/s.exec(error.fields?.msg ?? "");
        if (error.code !== "bad-message" || said === null || this.raw) {
            const { msg, ...fields } = error.fields;
            const more = Object.keys(fields).length > 0 ? ` ${write(fields)}` : "";
            this.complain(error.code === "login-required" ? `${error.code}: log in first` : error.message + more);
            return;
        }
        let field = this.field;
        for (const [, name, at] of said[2].matchAll(/\.([^.[\]]+)|\[(\d+|\.\.\.)\]/g)) {
            field = field?.within(name ?? at) ?? field;
        }
        if (field?.line === undefined) {
            this.complain(error.message);
            return;
        }
        field.line.classList.add("wrong");
        field.line.append(h("p", { class: "trouble", role: "alert" }, said[1]));
        field.focusable?.setAttribute("aria-invalid", "true");
    }

    complain(text) {
        this.trouble.textContent = text;
        this.trouble.hidden = false;
    }

    forgive() {
        this.trouble.hidden = true;
        for (const line of this.element.querySelectorAll(".wrong")) {
            line.classList.remove("wrong");
            line.querySelector(":scope > .trouble")?.remove();
            line.querySelector("[aria-invalid]")?.removeAttribute("aria-invalid");
        }
    }

    /** What was typed, for the form of the route as it is edited. */
    draft() {
        const draft = this.field?.draft() ?? ABSENT;
        return {
            raw: this.raw,
            code: this.code.value,
            fields: draft === ABSENT ? undefined : draft,
        };
    }

    restore({ raw, code, fields }) {
        if (fields !== undefined) {
            this.field?.restore(fields);
        }
        if (raw) {
            this.show(true);
            this.code.value = code;
        }
    }

    focus() {
        (this.raw ? this.code : this.element.querySelector(".fields :is(input, textarea, select)"))?.focus();
    }
}

export function signatureOf(route, types) {
    return `${route.message} ${route.schema === null ? "" : signature(route.schema, types)}`;
}
