/** Says, for ever, where blobs of a pack can be found as well. */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import { hashBytes, relocationObject, type ChunkId, type PackName } from '../format/names.ts';
import {
  encodeMoved,
  encodeRelocation,
  encodeRelocationStatement,
  targetsOf,
  type RelocationStatement,
} from '../format/relocation.ts';
import { openRelocation } from '../read/relocations.ts';
import { seal } from '../seal/aead.ts';
import { controlName } from '../seal/control-records.ts';
import { relocationSeal, signedRelocation } from '../seal/relocation-seal.ts';
import { isUselessObject } from '../store/bad-object.ts';
import type { StoreOptions } from '../store/object-store.ts';

export interface Relocation {
  /** Unique for the pack: letters a-z, digits and `-`, at most 63. The same id again must say the same. */
  readonly relocationId: string;
  /** The pack the blobs were in. */
  readonly pack: PackName;
  readonly reason: 'healed' | 'compacted';
  /** Where they are now: durable in the store before this is called. */
  readonly moved: readonly BlobRef[];
  /** The slot each of them had in `pack`; without it a collector keeps all of `moved` as long as anything needs the pack. */
  readonly slots?: ReadonlyMap<ChunkId, number>;
  /** Size of every pack `moved` names. */
  readonly sizes: ReadonlyMap<PackName, number>;
}

/**
 * Writes the relocation and returns its name in the store; undefined where the id says something else already, or what lies under it
 * cannot be read. Repeated with the same content it succeeds and changes nothing. Errors: those of the store.
 */
export async function writeRelocation(
  core: Core,
  input: Relocation,
  options: StoreOptions = {},
): Promise<string | undefined> {
  const { relocationId, moved, slots, sizes } = input;
  const { tenantId, indexKey, agent } = core.keyring;
  const pack = hashBytes(input.pack);
  const salt = core.random.bytes(32);
  const needed = new Map(
    moved.map((ref) => {
      const sizeBytes = sizes.get(ref.pack);
      if (sizeBytes === undefined || ref.pack === input.pack)
        throw new LifeboatError('internal.bug', `a relocation to pack ${ref.pack}, which is not a new place`);
      return [ref.pack, sizeBytes];
    }),
  );
  const statement: RelocationStatement = {
    tenantId,
    pack,
    relocationId,
    createdMs: core.clock.nowMs(),
    reason: input.reason,
    targets: targetsOf(needed),
    salt,
    sealed: seal(relocationSeal(indexKey, { tenantId, pack, relocationId, salt }), encodeMoved(moved, slots)),
    signer: agent?.publicKey ?? core.keyring.signer,
  };
  const statementBytes = encodeRelocationStatement(statement);
  const { signer: _inStatement, ...signed } = core.keyring.signAsWriter(signedRelocation(statementBytes));
  const object = encodeRelocation({ statement: statementBytes, ...signed });
  const name = controlName(core, relocationObject(input.pack, relocationId));
  if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return name;
  try {
    const there = await core.store.get(name, { ...options, maxBytes: MAX_RELOCATION_BYTES });
    const { moved: said } = openRelocation(core, there, { pack: input.pack, relocationId }, name);
    return Buffer.compare(encodeMoved(said), encodeMoved(moved)) === 0 ? name : undefined;
  } catch (error) {
    if (!isUselessObject(error)) throw error;
    core.log.warn('what lies under the name of a relocation is none', { object: name, why: error.message });
    return undefined;
  }
}
