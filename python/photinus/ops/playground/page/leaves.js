/** Fields of one value each: what somebody types, switches or chooses. What they have in common is said in fields.js. */

import { fresh, h } from "./element.js";
import { parse, write } from "./json.js";

/** The value of a field that is left out. */
export const ABSENT = Symbol("left out");

/** A field of one input. */
class Leaf {
    touched = false;

    constructor(input) {
        this.input = input;
        this.element = input;
        input.id = fresh("field");
        input.addEventListener("input", () => {
            this.touched = true;
        });
    }

    get focusable() {
        return this.input;
    }

    draft() {
        return this.touched ? this.read() : ABSENT;
    }

    restore(draft) {
        if (this.write(draft)) {
            this.touched = true;
        }
    }

    within() {
        return undefined;
    }
}

export class Text extends Leaf {
    constructor(schema) {
        const formats = {
            "date-time": "2030-12-31T23:59:59Z",
            date: "2030-12-31",
            time: "23:59:59",
            duration: "PT90S",
        };
        super(
            h("textarea", {
                rows: 1,
                spellcheck: "false",
                placeholder: formats[schema.format] ?? schema.examples?.[0] ?? "",
            }),
        );
        this.input.addEventListener("keydown", (event) => {
            // One line is the rule; Shift and Enter begin another.
            if (event.key === "Enter" && !event.shiftKey) {
                event.preventDefault();
            }
        });
    }

    read() {
        return this.input.value;
    }

    write(value) {
        const fits = typeof value === "string" || typeof value === "number" || typeof value === "bigint";
        if (fits) {
            this.input.value = String(value);
        }
        return fits;
    }
}

export class Numeric extends Leaf {
    constructor(schema) {
        super(
            h("input", {
                type: "text",
                inputmode: "decimal",
                spellcheck: "false",
                autocomplete: "off",
            }),
        );
        const least = schema.minimum ?? (schema.exclusiveMinimum !== undefined ? schema.exclusiveMinimum + 1 : 0);
        const most = schema.maximum ?? (schema.exclusiveMaximum !== undefined ? schema.exclusiveMaximum - 1 : least);
        this.input.value = String(Math.min(Math.max(0, least), Math.max(most, least)));
        this.input.addEventListener("keydown", (event) => {
            const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
            const value = this.read();
            if (step !== undefined && typeof value === "number") {
                event.preventDefault();
                this.input.value = String(Number((value + step).toPrecision(15)));
                this.input.dispatchEvent(new Event("input", { bubbles: true }));
            }
        });
    }

    /** What is no number is sent as the text that it is. */
    read() {
        const text = this.input.value.trim();
        if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text)) {
            return this.input.value;
        }
        return /^-?\d+$/.test(text) && !Number.isSafeInteger(Number(text)) ? BigInt(text) : Number(text);
    }

    write(value) {
        const fits =
            typeof value === "number" || typeof value === "bigint" || (typeof value === "string" && value !== "");
        if (fits) {
            this.input.value = String(value);
        }
        return fits;
    }

    restore(draft) {
        if (typeof draft !== "string" || (draft.trim() !== "" && Number.isFinite(Number(draft)))) {
            super.restore(draft);
        }
    }
}

export class Switch extends Leaf {
    constructor() {
        super(h("input", { type: "checkbox", class: "switch", role: "switch" }));
    }

    read() {
        return this.input.checked;
    }

    write(value) {
        if (typeof value === "boolean") {
            this.input.checked = value;
        }
        return typeof value === "boolean";
    }
}

export class Choice extends Leaf {
    constructor(values) {
        super(h("select", {}, ...values.map((value, at) => h("option", { value: at }, String(value)))));
        this.values = values;
    }

    read() {
        return this.values[this.input.selectedIndex];
    }

    write(value) {
        const at = this.values.indexOf(value);
        if (at >= 0) {
            this.input.selectedIndex = at;
        }
        return at >= 0;
    }
}

export class AnyJson extends Leaf {
    constructor() {
        super(
            h("textarea", {
                rows: 1,
                spellcheck: "false",
                class: "code",
                placeholder: "any JSON",
            }),
        );
        this.input.value = "null";
    }

    /** What is no JSON is sent as the text that it is. */
    read() {
        try {
            return parse(this.input.value);
        } catch {
            return this.input.value;
        }
    }

    write(value) {
        this.input.value = write(value);
        return true;
    }
}

export class None {
    element = h("span", { class: "none" }, "none");

    read() {
        return null;
    }

    write(value) {
        return value === null;
    }

    draft() {
        return ABSENT;
    }

    restore() {}

    within() {
        return undefined;
    }
}
