/**
 * What tells packs of equal content apart: the condemn list they were sealed after, and how often they were sealed anew because
 * something else lay under their name. Always of one length, so that a pack sealed anew has every blob where it was.
 */
const LIST_ID_BYTES = 16;

/** `listId`: of the newest condemn list the session knows; undefined when there is none. */
export function generationOf(listId: Uint8Array | undefined, reseals = 0): Uint8Array {
  const generation = Buffer.alloc(LIST_ID_BYTES + 4);
  generation.set(listId ?? []);
  generation.writeUInt32BE(reseals, LIST_ID_BYTES);
  return generation;
}

/** The same list, `reseals` times sealed anew. */
export function resealed(generation: Uint8Array, reseals: number): Uint8Array {
  return generationOf(generation.subarray(0, LIST_ID_BYTES), reseals);
}
