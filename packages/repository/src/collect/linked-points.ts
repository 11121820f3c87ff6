/** Which points there must be, by the chains of their machines: for who collects. */
import { LifeboatError } from '@lifeboat/foundation/errors';
import type { MachineId } from '@lifeboat/foundation/ids';

import { listLinks, readChain, type LostLinks } from '../chain/links.ts';
import type { Core } from '../core.ts';
import { chainLinkObject } from '../format/names.ts';
import { readLedger } from '../retention/ledger.ts';
import { linkKey } from '../retention/ledger-state.ts';
import { controlName } from '../seal/control-records.ts';
import type { StoreOptions } from '../store/object-store.ts';

/**
 * `<machine>/<point>` of every point a chain names, pruned or not: 100 bytes each in memory. Read before the points are listed, so that a
 * point which is committed and linked meanwhile is not missed. Throws `repository.collection-refused` where links are lost that alone
 * say what they named.
 */
export async function linkedPoints(core: Core, options: StoreOptions = {}): Promise<Set<string>> {
  const linked = new Set<string>();
  const { numbers } = await listLinks(core, undefined, options);
  for (const [machineId, listed] of numbers) {
    const { points, lost } = await readChain(core, { machineId, numbers: listed }, options);
    for (const pointId of points.keys()) linked.add(`${machineId}/${pointId}`);
    const gap = lost.length > 0 ? await unknownLink(core, machineId, lost, options) : undefined;
    if (!gap) continue;
    const object = controlName(core, chainLinkObject(machineId, gap.link));
    throw new LifeboatError(
      'repository.collection-refused',
      `link ${gap.link} of the chain of machine ${machineId} is lost, so which points there must be is not known: ${gap.why}. ` +
        `Bring ${object} back from a copy of the repository; if there is none, go on without it: ` +
        `"lifeboat repo policy write-off ${gap.link} --machine ${machineId}"`,
      { context: { machineId, object } },
    );
  }
  return linked;
}

/** The newest of the lost links that nobody wrote off. */
async function unknownLink(
  core: Core,
  machineId: MachineId,
  lost: readonly LostLinks[],
  options: StoreOptions,
): Promise<{ readonly link: number; readonly why: string } | undefined> {
  const { writtenOffLinks } = (await readLedger(core, options)).state;
  for (const { from, to, why } of lost)
    for (let link = to; link >= from; link--) if (!writtenOffLinks.has(linkKey(machineId, link))) return { link, why };
  return undefined;
}
