/**
 * Fields of a form for the values of a JSON schema, one class a kind.
 *
 * A field has its `element`, gives its value with `read`, and takes one with `write`, as far as that fits. What somebody has
 * typed is its `draft`; another field, of the schema as it was edited, is given that with `restore`. The server judges
 * what is sent: a field lets anything be typed, so that one can see what it says.
 */

import { fresh, h } from "./element.js";
import { ABSENT, AnyJson, Choice, None, Numeric, Switch, Text } from "./leaves.js";
import { boundsOf, kindOf, resolve } from "./schema.js";

const LEFT_OUT = Symbol("a variant without a value");
/** Variants above this are a list that opens. */
const BUTTONS_AT_MOST = 4;

export function fieldFor(schema, types) {
    const found = resolve(schema, types);
    const field = make(found, types);
    if (found.default !== undefined) {
        field.write(found.default);
    }
    return field;
}

function make(schema, types) {
    if (schema.enum !== undefined) {
        return new Choice(schema.enum);
    }
    if (schema.anyOf !== undefined) {
        const nullable = schema.anyOf.some((variant) => resolve(variant, types).type === "null");
        const variants = schema.anyOf.map((variant) => ({
            name: kindOf(variant, types),
            schema: variant,
        }));
        // None first: an optional value is none until somebody wants one.
        variants.sort((a, b) => (b.name === "none") - (a.name === "none"));
        return new Variants(variants, types, nullable);
    }
    switch (schema.type) {
        case "boolean":
            return new Switch();
        case "integer":
        case "number":
            return new Numeric(schema);
        case "string":
            return new Text(schema);
        case "null":
            return new None();
        case "array":
            return schema.prefixItems !== undefined ? new Tuple(schema, types) : new List(schema, types);
        case "object":
            return schema.properties !== undefined ? new Struct(schema, types) : new Dictionary(schema, types);
        default:
            return new AnyJson();
    }
}

/** One line of a form: name, what is expected, the field, and what the server had against it. */
function line(name, field, schema, types, extra = []) {
    const found = resolve(schema, types);
    const hint = [kindOf(found, types), boundsOf(found)].filter((part) => part !== "").join(" · ");
    const label = h(field.focusable ? "label" : "span", { class: "name", for: field.focusable?.id }, name);
    const element = h(
        "div",
        { class: field.focusable ? "line" : "line nested" },
        h("div", { class: "head" }, label, h("span", { class: "hint" }, hint), ...extra),
        found.description !== undefined && !found.properties && h("p", { class: "about" }, found.description),
        field.element,
    );
    field.line = element;
    return element;
}

class Struct {
    constructor(schema, types) {
        this.fields = new Map();
        this.fixed = {};
        this.element = h("div", { class: "struct" });
        for (const [name, inner] of Object.entries(schema.properties)) {
            const required = schema.required?.includes(name) ?? false;
            if (required && inner.enum?.length === 1) {
                // The tag of a Struct in a union.
                this.fixed[name] = inner.enum[0];
                continue;
            }
            const optional = !required && inner.default === undefined;
            const choices = [
                { name: "left out", schema: LEFT_OUT },
                { name: kindOf(inner, types), schema: inner },
            ];
            const field = optional ? new Variants(choices, types, false) : fieldFor(inner, types);
            this.fields.set(name, field);
            this.element.append(line(name, field, inner, types));
        }
        if (this.fields.size === 0) {
            this.element.append(h("p", { class: "about" }, "It has no fields."));
        }
    }

    read() {
        const value = { ...this.fixed };
        for (const [name, field] of this.fields) {
            const inner = field.read();
            if (inner !== ABSENT) {
                value[name] = inner;
            }
        }
        return value;
    }

    write(value) {
        if (value === null || typeof value !== "object" || Array.isArray(value)) {
            return false;
        }
        if (Object.entries(this.fixed).some(([name, tag]) => value[name] !== tag)) {
            return false;
        }
        for (const [name, field] of this.fields) {
            field.write(name in value ? value[name] : ABSENT);
        }
        return true;
    }

    draft() {
        const drafts = {};
        for (const [name, field] of this.fields) {
            const draft = field.draft();
            if (draft !== ABSENT) {
                drafts[name] = draft;
            }
        }
        return Object.keys(drafts).length > 0 ? drafts : ABSENT;
    }

    restore(draft) {
        if (draft !== null && typeof draft === "object") {
            for (const [name, field] of this.fields) {
                if (name in draft) {
                    field.restore(draft[name]);
                }
            }
        }
    }

    within(name) {
        return this.fields.get(name);
    }
}

class Tuple {
    constructor(schema, types) {
        this.fields = [];
        this.element = h("div", { class: "struct" });
        schema.prefixItems.forEach((inner, at) => {
            const field = fieldFor(inner, types);
            this.fields.push(field);
            this.element.append(line(String(at), field, inner, types));
        });
    }

    read() {
        return this.fields.map((field) => field.read());
    }

    write(value) {
        if (!Array.isArray(value)) {
            return false;
        }
        for (const [at, field] of this.fields.entries()) {
            if (at < value.length) {
                field.write(value[at]);
            }
        }
        return true;
    }

    draft() {
        const drafts = this.fields.map((field) => field.draft());
        return drafts.some((draft) => draft !== ABSENT) ? drafts : ABSENT;
    }

    restore(drafts) {
        if (Array.isArray(drafts)) {
            for (const [at, field] of this.fields.entries()) {
                if (at < drafts.length && drafts[at] !== ABSENT) {
                    field.restore(drafts[at]);
                }
            }
        }
    }

    within(at) {
        return this.fields[Number(at)];
    }
}

/** Items that come and go: what lists and maps have in common. */
class Items {
    touched = false;

    constructor(what, make) {
        this.items = [];
        this.make = make;
        this.list = h("div", { class: "items" });
        const add = h("button", { type: "button", class: "quiet", onclick: () => this.#added() }, `Add ${what}`);
        this.element = h("div", {}, this.list, add);
        this.list.addEventListener("input", () => {
            this.touched = true;
        });
    }

    add() {
        const item = this.make();
        const remove = h(
            "button",
            {
                type: "button",
                class: "remove",
                "aria-label": "Remove",
                title: "Remove",
            },
            "×",
        );
        item.element = h("div", { class: "item" }, h("div", { class: "parts" }, ...item.parts), remove);
        remove.addEventListener("click", () => {
            this.touched = true;
            this.items.splice(this.items.indexOf(item), 1);
            item.element.remove();
            this.element.dispatchEvent(new Event("input", { bubbles: true }));
        });
        this.items.push(item);
        this.list.append(item.element);
        return item;
    }

    clear() {
        this.items = [];
        this.list.replaceChildren();
    }

    draft() {
        return this.touched ? this.read() : ABSENT;
    }

    restore(draft) {
        if (this.write(draft)) {
            this.touched = true;
        }
    }

    #added() {
        this.touched = true;
        const { element } = this.add();
        element.querySelector("input, textarea, select, button")?.focus();
        this.element.dispatchEvent(new Event("input", { bubbles: true }));
    }
}

class List extends Items {
    constructor(schema, types) {
        const inner = schema.items ?? {};
        super(kindOf(inner, types), () => {
            const field = fieldFor(inner, types);
            return { field, parts: [field.element] };
        });
        for (let count = 0; count < (schema.minItems ?? 0); count++) {
            this.add();
        }
    }

    read() {
        return this.items.map(({ field }) => field.read());
    }

    write(value) {
        if (!Array.isArray(value)) {
            return false;
        }
        this.clear();
        for (const item of value) {
            this.add().field.write(item);
        }
        return true;
    }

    within(at) {
        return this.items[Number(at)]?.field;
    }
}

class Dictionary extends Items {
    constructor(schema, types) {
        const inner = typeof schema.additionalProperties === "object" ? schema.additionalProperties : {};
        super(kindOf(inner, types), () => {
            const key = h("input", {
                type: "text",
                class: "key",
                placeholder: "key",
                "aria-label": "key",
            });
            const field = fieldFor(inner, types);
            return { key, field, parts: [key, field.element] };
        });
    }

    read() {
        return Object.fromEntries(this.items.map(({ key, field }) => [key.value, field.read()]));
    }

    write(value) {
        if (value === null || typeof value !== "object" || Array.isArray(value)) {
            return false;
        }
        this.clear();
        for (const [name, inner] of Object.entries(value)) {
            const item = this.add();
            item.key.value = name;
            item.field.write(inner);
        }
        return true;
    }

    within(name) {
        return this.items.find(({ key }) => key.value === name)?.field;
    }
}

/** One of several: an optional value, a union. */
class Variants {
    touched = false;

    constructor(variants, types, nullable) {
        this.variants = variants;
        this.types = types;
        this.nullable = nullable;
        this.inside = h("div", { class: "inside" });
        const names = variants.map(({ name }) => name);
        this.buttons = names.length <= BUTTONS_AT_MOST;
        const group = fresh("variant");
        this.selector = this.buttons
            ? h(
                  "div",
                  { class: "variants", role: "radiogroup" },
                  ...names.map((name, at) =>
                      h("label", {}, h("input", { type: "radio", name: group, value: at }), h("span", {}, name)),
                  ),
              )
            : h("select", {}, ...names.map((name, at) => h("option", { value: at }, name)));
        this.selector.addEventListener("input", (event) => {
            this.touched = true;
            this.choose(Number(event.target.value));
        });
        this.inside.addEventListener("input", () => {
            this.touched = true;
        });
        this.element = h("div", { class: "union" }, this.selector, this.inside);
        this.choose(0);
    }

    choose(at) {
        this.at = at;
        const { schema } = this.variants[at];
        this.field = schema === LEFT_OUT ? undefined : fieldFor(schema, this.types);
        this.inside.replaceChildren(
            ...(this.field === undefined || this.field instanceof None ? [] : [this.field.element]),
        );
        if (this.buttons) {
            this.selector.querySelectorAll("input")[at].checked = true;
        } else {
            this.selector.selectedIndex = at;
        }
    }

    read() {
        return this.field === undefined ? ABSENT : this.field.read();
    }

    /** The first variant that the value fits. */
    write(value) {
        const before = [this.at, this.field];
        for (const [at, { schema }] of this.variants.entries()) {
            if (schema === LEFT_OUT) {
                if (value === ABSENT) {
                    this.choose(at);
                    return true;
                }
            } else if (value !== ABSENT && suits(value, schema, this.types)) {
                this.choose(at);
                return this.field.write(value);
            }
        }
        [this.at, this.field] = before;
        return false;
    }

    draft() {
        return this.touched
            ? {
                  variant: this.variants[this.at].name,
                  draft: this.field?.draft() ?? ABSENT,
              }
            : ABSENT;
    }

    restore({ variant, draft } = {}) {
        const at = this.variants.findIndex(({ name }) => name === variant);
        if (at >= 0) {
            this.choose(at);
            this.touched = true;
            if (draft !== ABSENT) {
                this.field?.restore(draft);
            }
        }
    }

    within(name) {
        return this.field?.within(name) ?? undefined;
    }
}

/** Whether this value may be meant to be one of the schema's. */
function suits(value, schema, types) {
    const found = resolve(schema, types);
    if (found.enum !== undefined) {
        return found.enum.includes(value);
    }
    const isMap = value !== null && typeof value === "object" && !Array.isArray(value);
    switch (found.type) {
        case "null":
            return value === null;
        case "boolean":
            return typeof value === "boolean";
        case "integer":
            return typeof value === "bigint" || Number.isInteger(value);
        case "number":
            return typeof value === "number" || typeof value === "bigint";
        case "string":
            return typeof value === "string";
        case "array":
            return Array.isArray(value);
        case "object":
            return (
                isMap &&
                Object.entries(found.properties ?? {}).every(([name, inner]) =>
                    inner.enum?.length === 1
                        ? value[name] === inner.enum[0]
                        : !found.required?.includes(name) || name in value,
                )
            );
        default:
            return true;
    }
}
