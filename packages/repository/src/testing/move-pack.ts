/** Seals the blobs of a pack anew, into another pack under another session, and says so in a relocation: what a compaction does. */
import { packObject, chunkIdOf, type PackName } from '../format/names.ts';
import { decodePackHeader, kindOf, parsePack } from '../format/pack.ts';
import { MAX_PACK_BYTES } from '../format/limits.ts';
import { openBlob, openToc, packKey } from '../seal/blob-seal.ts';
import { zstd, type Compression } from '../seal/codec.ts';
import { PackBuilder, type PackOwner } from '../write/pack-builder.ts';
import { writeRelocation } from '../write/relocation-writer.ts';
import type { Core } from '../core.ts';

/** The new pack. The old one stays; `slots`: only these blobs move (all of them). */
export async function movePack(
  { core }: { readonly core: Core },
  pack: PackName,
  options: { relocationId?: string; slots?: readonly number[]; compression?: Compression } = {},
): Promise<PackName> {
  const { store, keyring } = core;
  const compression = options.compression ?? zstd(1);
  const bytes = await store.get(packObject(pack), { maxBytes: MAX_PACK_BYTES });
  const layout = parsePack(bytes, pack);
  const { header } = decodePackHeader(bytes, pack);
  const kind = kindOf(header) ?? 'data';
  const baseKey = keyring.baseKeyOf(header) ?? new Uint8Array(32);
  const opening = { key: packKey(baseKey, header.salt), kind, tenantId: keyring.tenantId };
  const toc = openToc(opening, layout.sealedToc, pack);
  const session = keyring.newSessionKey(core.random);
  const owner: PackOwner = {
    kind,
    tenantId: keyring.tenantId,
    chunkIdKey: keyring.chunkIdKey,
    baseKey: kind === 'data' ? session.key : baseKey,
    generation: core.random.bytes(8),
    access:
      kind === 'data'
        ? { epoch: session.epoch, sealedSessionKey: session.sealed }
        : { machineId: header.machineId ?? '' },
  };
  const buffer = new Uint8Array(2 * bytes.length + 4096);
  const builder = new PackBuilder({ owner, buffer, compression });
  for (const { slot, offsetBytes, lengthBytes } of layout.blobs) {
    if (options.slots && !options.slots.includes(slot)) continue;
    const id = chunkIdOf(toc.ids.subarray(slot * 32, slot * 32 + 32));
    const sealed = bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    const plain = { exactBytes: toc.plainBytes[slot] ?? 0 };
    const opened = openBlob({ ...opening, chunkIdKey: keyring.chunkIdKey, id, slot, plain }, sealed, compression);
    if ('failure' in opened) throw new Error(opened.failure);
    builder.add(id, opened.plain);
  }
  const { name, sizeBytes, blobs } = builder.finish();
  await store.putIfAbsent(packObject(name), [buffer.subarray(0, sizeBytes)]);
  const relocationId = options.relocationId ?? 'r1';
  const sizes = new Map([[name, sizeBytes]]);
  const slots = new Map(layout.blobs.map(({ slot }) => [chunkIdOf(toc.ids.subarray(slot * 32, slot * 32 + 32)), slot]));
  const written = await writeRelocation(core, { relocationId, pack, reason: 'compacted', moved: blobs, slots, sizes });
  if (!written) throw new Error(`${relocationId} says something else already`);
  return name;
}
