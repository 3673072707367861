/** Functions of the program's that are called when something happens, by what that is. */

/** What is returned takes it out again. */
export function add<Key, Value>(to: Map<Key, Set<Value>>, key: Key, value: Value): () => void {
    const values = to.get(key) ?? new Set();
    to.set(key, values.add(value));
    return () => {
        values.delete(value);
        if (values.size === 0 && to.get(key) === values) {
            to.delete(key);
        }
    };
}

/** A handler's error is its program's: told as one that nobody has caught, and the connection goes on. */
export function guarded(call: () => void): void {
    try {
        call();
    } catch (error) {
        queueMicrotask(() => {
            throw error;
        });
    }
}
