import type { MachineId } from '@lifeboat/foundation/ids';

import type { Core } from '../core.ts';
import { listObjects, writeObject } from '../objects/control-objects.ts';
import type { StoreOptions } from '../store/object-store.ts';

/**
 * Writes what counts of each control object into another repository, where that holds nothing newer; of one machine, where one is named.
 * Versions before it are not copied. May be repeated. Errors: those of both stores, `repository.object-busy`.
 */
export async function copyObjects(
  source: Core,
  target: Core,
  { machineId, ...options }: StoreOptions & { readonly machineId?: MachineId | undefined },
): Promise<void> {
  for (const { kind, id, current } of await listObjects(source, undefined, options)) {
    if (!current || (machineId !== undefined && (kind !== 'machine' || id !== machineId))) continue;
    const { payload, schema, writtenMs } = current;
    await writeObject(
      target,
      { kind, id },
      ({ current: there }) => {
        if (there && there.writtenMs >= writtenMs) return undefined;
        if (!payload) return 'delete';
        const isThere = there?.schema === schema && there.payload && Buffer.compare(there.payload, payload) === 0;
        return isThere ? undefined : { schema, payload };
      },
      options,
    );
  }
}
