/** Bytes as the tests write them. */

export function bytes(hex: string): Uint8Array {
    return new Uint8Array(Buffer.from(hex.replace(/\s/g, ""), "hex"));
}

export function hex(bytes: Uint8Array): string {
    return Buffer.from(bytes).toString("hex");
}

export function utf8(text: string): Uint8Array {
    return new TextEncoder().encode(text);
}

export function text(bytes: Uint8Array): string {
    return new TextDecoder().decode(bytes);
}

export function joined(pieces: readonly Uint8Array[]): Uint8Array {
    return new Uint8Array(Buffer.concat(pieces));
}
