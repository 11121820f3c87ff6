/** Looks at one pack: is it there, is it what was written. What fails is looked at once more, over another connection, before it counts. */
import { hasCode } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import { MAX_PACK_BYTES } from '../format/limits.ts';
import { packObject, type PackName } from '../format/names.ts';
import { hashSealed, parsePack } from '../format/pack.ts';
import type { CheckLevel } from '../format/verification.ts';
import { discard } from '../seal/discard.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

/** What is wrong with a pack: all of it, or single blobs. */
export interface PackDamage {
  readonly whole?: string;
  readonly slots: ReadonlyMap<number, string>;
}

/** Each level finds what those before it find, and more. */
export async function checkPack(
  core: Core,
  pack: { readonly name: PackName; readonly sizeBytes: number | undefined },
  level: CheckLevel,
  signal: AbortSignal,
): Promise<PackDamage | undefined> {
  const { name, sizeBytes } = pack;
  if (level === 'present') return checkSize(core, name, sizeBytes, signal);
  return level === 'ciphertext' ? checkBytes(core, name, signal) : checkContent(core, name, signal);
}

/** Whether it is there, in its size where that is known. Asked once more before it counts. */
export async function checkSize(
  core: Core,
  pack: PackName,
  sizeBytes: number | undefined,
  signal: AbortSignal,
): Promise<PackDamage | undefined> {
  const first = await checkSizeOnce(core, pack, sizeBytes, { signal });
  return first && checkSizeOnce(core, pack, sizeBytes, { signal, fresh: true });
}

async function checkSizeOnce(
  core: Core,
  pack: PackName,
  sizeBytes: number | undefined,
  options: StoreOptions,
): Promise<PackDamage | undefined> {
  try {
    const found = await core.store.head(packObject(pack), options);
    if (!found) return { whole: 'it is missing', slots: new Map() };
    if (sizeBytes === undefined || found.sizeBytes === sizeBytes) return undefined;
    return { whole: `it has ${found.sizeBytes} bytes instead of ${sizeBytes}`, slots: new Map() };
  } catch (error) {
    if (!hasCode(error, 'repository.object-unreadable')) throw error;
    return { whole: error.message, slots: new Map() };
  }
}

/** Needs no key: name, tables and hashes of the sealed blobs. Read once more, over another connection, before it counts. */
export function checkBytes(core: Core, pack: PackName, signal: AbortSignal): Promise<PackDamage | undefined> {
  return checkWhole(core, pack, { signal, openBlobs: false });
}

/** As `checkBytes`; and every blob opens to the id that the pack's own table gives it. */
function checkContent(core: Core, pack: PackName, signal: AbortSignal): Promise<PackDamage | undefined> {
  return checkWhole(core, pack, { signal, openBlobs: true });
}

interface Look {
  readonly signal: AbortSignal;
  readonly openBlobs: boolean;
}

async function checkWhole(core: Core, pack: PackName, look: Look): Promise<PackDamage | undefined> {
  const first = await checkWholeOnce(core, pack, look);
  return first && checkWholeOnce(core, pack, { ...look, fresh: true });
}

async function checkWholeOnce(
  core: Core,
  pack: PackName,
  { openBlobs, ...options }: Look & { readonly fresh?: boolean },
): Promise<PackDamage | undefined> {
  const object = packObject(pack);
  try {
    const bytes = await core.store.get(object, { ...options, maxBytes: MAX_PACK_BYTES });
    const layout = parsePack(bytes, object);
    if (layout.name !== pack) return { whole: `its tables hash to ${layout.name}`, slots: new Map() };
    const slots = new Map<number, string>();
    for (const { slot, offsetBytes, lengthBytes, hash } of layout.blobs) {
      const found = hashSealed(bytes.subarray(offsetBytes, offsetBytes + lengthBytes));
      if (!found.equals(hash)) slots.set(slot, `the ${lengthBytes} bytes at ${offsetBytes} do not have their hash`);
    }
    if (openBlobs)
      for (const [slot, why] of await core.blobs.openWhole(layout, bytes, options))
        if (!slots.has(slot)) slots.set(slot, why);
    discard(bytes);
    return slots.size > 0 ? { slots } : undefined;
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    return { whole: error.message, slots: new Map() };
  }
}
