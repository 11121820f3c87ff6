/** Which points there must be, by the chains of their machines: for who collects. */
import { LifeboatError } from '@lifeboat/foundation/errors';

import { listLinks, readChain } from '../chain/links.ts';
import type { Core } from '../core.ts';
import { chainLinkObject } from '../format/names.ts';
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
    const [gap] = lost;
    if (!gap) continue;
    const object = controlName(core, chainLinkObject(machineId, gap.to));
    throw new LifeboatError(
      'repository.collection-refused',
      `link ${gap.to} of the chain of machine ${machineId} is lost, so which points there must be is not known: ${gap.why}. ` +
        `Bring ${object} back from a copy of the repository`,
      { context: { machineId, object } },
    );
  }
  return linked;
}
