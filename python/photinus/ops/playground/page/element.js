/** Elements of the page: `h("button", { class: "primary", onclick: send }, "Send")`. */

export function h(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith("on")) {
            element.addEventListener(key.slice(2), value);
        } else if (value === true) {
            element.setAttribute(key, "");
        } else if (value !== false && value !== undefined && value !== null) {
            element.setAttribute(key, value);
        }
    }
    element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
    return element;
}

/** A name that no other element of the page has, for `id`, `for` and `aria-…`. */
export function fresh(what) {
    numbers += 1;
    return `${what}-${numbers}`;
}

let numbers = 0;
