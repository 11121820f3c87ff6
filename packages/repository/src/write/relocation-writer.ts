/** Says, for ever, where blobs of a pack can be found as well. */
import { LifeboatError } from '@lifeboat/foundation/errors';

import type { Core } from '../core.ts';
import type { BlobRef } from '../format/blob-ref.ts';
import { MAX_RELOCATION_BYTES } from '../format/limits.ts';
import { hashBytes, relocationObject, type PackName } from '../format/names.ts';
import {
  encodeMoved,
  encodeRelocation,
  encodeRelocationStatement,
  targetsOf,
  type RelocationStatement,
} from '../format/relocation.ts';
import { openRelocation } from '../read/relocations.ts';
import { seal } from '../seal/aead.ts';
import { relocationSeal, signedRelocation } from '../seal/relocation-seal.ts';
import type { StoreOptions } from '../store/object-store.ts';

export interface Relocation {
  /** Unique for the pack: letters a-z, digits and `-`, at most 63. The same id again must say the same. */
  readonly relocationId: string;
  /** The pack the blobs were in. */
  readonly pack: PackName;
  readonly reason: 'healed' | 'compacted';
  /** Where they are now: durable in the store before this is called. */
  readonly moved: readonly BlobRef[];
  /** Size of every pack `moved` names. */
  readonly sizes: ReadonlyMap<PackName, number>;
}

/**
 * Writes the relocation and returns its name in the store. Repeated with the same content it succeeds and changes nothing.
 * Errors: `repository.limit-exceeded` when the id says something else already, those of the store.
 */
export async function writeRelocation(core: Core, input: Relocation, options: StoreOptions = {}): Promise<string> {
  const { relocationId, moved, sizes } = input;
  const { tenantId, indexKey, signer } = core.keyring;
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
    sealed: seal(relocationSeal(indexKey, { tenantId, pack, relocationId, salt }), encodeMoved(moved)),
    signer,
  };
  const statementBytes = encodeRelocationStatement(statement);
  const signature = core.keyring.sign(signedRelocation(statementBytes));
  const object = encodeRelocation({ statement: statementBytes, signature });
  const name = relocationObject(input.pack, relocationId);
  if ((await core.store.putIfAbsent(name, [object], options)) === 'created') return name;
  const there = openRelocation(
    core,
    await core.store.get(name, { ...options, maxBytes: MAX_RELOCATION_BYTES }),
    { pack: input.pack, relocationId },
    name,
  );
  if (Buffer.compare(encodeMoved(there.moved), encodeMoved(moved)) === 0) return name;
  throw new LifeboatError('repository.limit-exceeded', `${name} exists and moves other blobs, or to other places`, {
    context: { object: name },
  });
}
