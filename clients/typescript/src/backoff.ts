/** How long to wait before the next try, in milliseconds, so that all who were cut at once do not come back at once. */

/** The first try: enough to spread a thousand players, and too short to be seen. */
const FIRST = 100;
const DOUBLING_FROM = 200;
/** A server that starts again takes seconds; nobody is to wait much longer than it. */
const LONGEST = 5000;

/** @param attempt 1 for the first try @param random from 0 to 1 */
export function delay(attempt: number, random: number): number {
    if (attempt <= 1) {
        return FIRST * random;
    }
    const most = Math.min(DOUBLING_FROM * 2 ** (attempt - 2), LONGEST);
    return most / 2 + (most / 2) * random;
}
