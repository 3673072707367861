/** What a JSON schema of msgspec's says, for people and for forms. */

/** The schema itself instead of a reference, with what stands beside the reference (a default, a description). */
export function resolve(schema, types) {
    let found = schema;
    while (found.$ref !== undefined) {
        const { $ref, ...beside } = found;
        found = { ...types[$ref.slice($ref.lastIndexOf("/") + 1)], ...beside };
    }
    return found;
}

/** The schema and everything that it refers to, as one text: the same text, the same form. */
export function signature(schema, types) {
    const used = {};
    const visit = (part) => {
        if (part === null || typeof part !== "object") {
            return;
        }
        if (typeof part.$ref === "string") {
            const name = part.$ref.slice(part.$ref.lastIndexOf("/") + 1);
            if (used[name] === undefined) {
                used[name] = types[name];
                visit(types[name]);
            }
        }
        for (const inner of Object.values(part)) {
            visit(inner);
        }
    };
    visit(schema);
    return JSON.stringify([schema, used]);
}

/** The kind of a value in a word: `text`, `integer`, `list`, or a Struct's name. */
export function kindOf(schema, types) {
    const found = resolve(schema, types);
    if (found.enum !== undefined) {
        return found.title ?? "choice";
    }
    if (found.anyOf !== undefined) {
        return found.anyOf.map((variant) => kindOf(variant, types)).join(" or ");
    }
    switch (found.type) {
        case "null":
            return "none";
        case "string":
            return found.contentEncoding ?? found.format ?? "text";
        case "array":
            return found.title ?? (found.prefixItems !== undefined ? "tuple" : "list");
        case "object":
            return found.title ?? "map";
        default:
            return found.type ?? found.title ?? "any JSON";
    }
}

/** What is allowed, in a few signs: `1 … 9`, `at most 24 characters`. */
export function boundsOf(schema) {
    const bounds = [];
    const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
    const least =
        minimum !== undefined ? `≥ ${minimum}` : exclusiveMinimum !== undefined ? `> ${exclusiveMinimum}` : "";
    const most = maximum !== undefined ? `≤ ${maximum}` : exclusiveMaximum !== undefined ? `< ${exclusiveMaximum}` : "";
    if (minimum !== undefined && maximum !== undefined) {
        bounds.push(`${minimum} … ${maximum}`);
    } else if (least !== "" || most !== "") {
        bounds.push(`${least} ${most}`.trim());
    }
    if (multipleOf !== undefined) {
        bounds.push(`a multiple of ${multipleOf}`);
    }
    const counted = [
        ["minLength", "maxLength", "characters"],
        ["minItems", "maxItems", "items"],
        ["minProperties", "maxProperties", "items"],
    ];
    for (const [from, to, what] of counted) {
        const [low, high] = [schema[from], schema[to]];
        if (schema.prefixItems !== undefined || (low === undefined && high === undefined)) {
            continue;
        }
        bounds.push(
            low !== undefined && high !== undefined
                ? `${low} … ${high} ${what}`
                : high !== undefined
                  ? `at most ${high} ${what}`
                  : `at least ${low} ${what}`,
        );
    }
    if (schema.pattern !== undefined) {
        bounds.push(`/${schema.pattern}/`);
    }
    return bounds.join(", ");
}
