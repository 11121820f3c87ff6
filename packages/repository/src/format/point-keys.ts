/**
 * Keys of the points of one operation, for who restores or starts them: `frame('PKEY', protobuf)`, in a file of mode 0600 or in the memory of
 * who hands them on. They open the packs those points need, and no other.
 */
import { damaged, decodeFrame, encodeFrame } from './frame.ts';
import { MAX_GRANTED_PACKS, MAX_GRANTED_POINTS } from './limits.ts';
import { packNameOf, type PackName } from './names.ts';
import { bytes, list, message, text, type MessageOf } from './wire.ts';

const schema = message({
  /** SHA-256 of the superblock object: the repository they are for. */
  superblockHash: bytes(1, { length: 32 }),
  tenantId: bytes(2, { length: 16 }),
  /** The tenant's Ed25519 public key. */
  signer: bytes(3, { length: 32 }),
  /** Every chunk that is read is compared with its id. */
  chunkIdKey: bytes(4, { length: 32 }),
  points: list(
    5,
    message({ machineId: text(1, 64), pointId: text(2, 64), key: bytes(3, { length: 32 }) }),
    MAX_GRANTED_POINTS,
  ),
  /** Names, ascending, and the key of each. */
  packs: bytes(6, { max: MAX_GRANTED_PACKS * 32 }),
  packKeys: bytes(7, { max: MAX_GRANTED_PACKS * 32 }),
});
export type PointKeys = MessageOf<typeof schema>;

export const encodePointKeys = (keys: PointKeys): Uint8Array => encodeFrame('PKEY', schema.encode(keys));

/** Throws `repository.object-damaged` or `repository.newer-version`. */
export function decodePointKeys(object: Uint8Array, what: string): PointKeys {
  const keys = schema.decode(decodeFrame('PKEY', object, what), what);
  const { packs, packKeys } = keys;
  if (packs.length % 32 !== 0 || packs.length !== packKeys.length)
    throw damaged(what, `${packs.length} bytes of names and ${packKeys.length} of keys`);
  for (let at = 32; at < packs.length; at += 32)
    if (Buffer.compare(packs.subarray(at - 32, at), packs.subarray(at, at + 32)) >= 0)
      throw damaged(what, 'its packs do not rise');
  return keys;
}

/** The key of a pack by binary search: a table of a million entries would cost a hundred times its bytes. */
export function keyOfPack({ packs, packKeys }: PointKeys, wanted: PackName): Uint8Array | undefined {
  let low = 0;
  let high = packs.length / 32;
  while (low < high) {
    const middle = (low + high) >> 1;
    const name = packNameOf(packs.subarray(middle * 32, middle * 32 + 32));
    if (name === wanted) return packKeys.subarray(middle * 32, middle * 32 + 32);
    if (name < wanted) low = middle + 1;
    else high = middle;
  }
  return undefined;
}
