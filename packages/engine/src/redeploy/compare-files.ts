/**
 * Compares every file of restored disks with the point's: both mounted under throw-away overlays, neither written. All
 * filesystems that the guest's fstab mounts from its disks; what cannot be looked at is named.
 */
import { join } from 'node:path';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { hasCode } from '@lifeboat/foundation/errors';
import { type GuestDisk, withGuest } from '@lifeboat/guest/access/open-guest';
import type { EngineDeps } from '../deps.ts';
import { proven, recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint } from '../points.ts';
import type { CompareFilesInput, CompareFilesSummary } from '../verbs.ts';
import { compareAttributes } from './compare-attributes.ts';
import { compareTrees } from './compare-trees.ts';
import { pairMounts } from './pair-mounts.ts';
import { guestDisk } from './guest-disk.ts';

export async function compareFiles(
  deps: EngineDeps,
  input: CompareFilesInput,
  context: VerbContext,
): Promise<CompareFilesSummary> {
  const operation = await beginOperation(deps, input, { verb: 'compare', machine: input.machine }, context.signal);
  const { directory, qemuDirectory, signal } = operation;
  let assertServing = (): void => {};
  try {
    const startedMs = deps.clock.monotonicMs();
    const beganMs = deps.clock.nowMs();
    const { machineId, pointId } = await findPoint(deps.repository, input.machine, input.pointId);
    const served = await deps.exporter({ machineId, pointId, directory, qemuDirectory }, { signal });
    operation.onClose(() => served.stop());
    assertServing = () => served.assertServing();
    const original = served.disks.map(({ name }): GuestDisk => ({
      name,
      image: { nbdSocketPath: served.socketPath, nbdExportName: name },
    }));
    const access = (disks: readonly GuestDisk[], side: string) =>
      ({ disks, directory: join(directory, side), signal, filesystems: 'all' }) as const;
    const durationMs = (): number => Math.round(deps.clock.monotonicMs() - startedMs);
    let isWhole = false;
    const summary = await withGuest(access(original, 'a'), async (point) => {
      try {
        return await withGuest(access(input.disks.map(guestDisk), 'b'), async (restored) => {
          const { pairs, missing, notCompared } = pairMounts(point, restored);
          const total = { comparedFiles: 0, comparedBytes: 0, differing: [...missing], notCompared: [...notCompared] };
          for (const pair of pairs) {
            const { mountPoint } = pair;
            const before = total.comparedBytes;
            const part = await compareTrees(pair.point, pair.restored, {
              signal,
              progress: (bytes, path) =>
                context.progress({ phase: 'compare', doneBytes: before + bytes, detail: join(mountPoint, path) }),
            });
            total.comparedFiles += part.comparedFiles;
            total.comparedBytes += part.comparedBytes;
            const attributes = await attributesOrReason(pair.point, pair.restored, signal);
            if (attributes.reason) total.notCompared.push(`extended attributes of ${mountPoint}: ${attributes.reason}`);
            const differing = new Set([...part.differing, ...attributes.differing]);
            total.differing.push(...[...differing].map((path) => join(mountPoint, path)));
          }
          isWhole = missing.length === 0 && total.notCompared.length === 0;
          return { ...total, durationMs: durationMs() };
        });
      } catch (error) {
        // A limit of this host, and no reason to take back what was restored.
        if (!hasCode(error, 'guest.filesystem-twin')) throw error;
        const notCompared = [`any file: ${error.message}`];
        return { comparedFiles: 0, comparedBytes: 0, differing: [], notCompared, durationMs: durationMs() };
      }
    });
    const { comparedFiles, comparedBytes: readBytes, differing } = summary;
    // Mounted as they were, and read to the end: that is said of the point's filesystems, whatever the other side holds.
    const claims = isWhole && comparedFiles > 0 ? proven(pointId, ['filesystem']) : [];
    const said = `${comparedFiles} files compared with restored disks, ${differing.length} differ`;
    const what = { operation: 'compare-files', operationId: input.opId, beganMs, readBytes, summary: said };
    await recordEvidence(deps, { machineId, ...what, claims }, signal);
    return summary;
  } catch (error) {
    // Then this is why.
    if (!signal.aborted) assertServing();
    throw error;
  } finally {
    await operation.close({ remove: false });
  }
}

/** A tree with more attributes than are read at once is named; its files are compared all the same. */
async function attributesOrReason(
  left: string,
  right: string,
  signal: AbortSignal,
): Promise<{ readonly differing: readonly string[]; readonly reason?: string }> {
  try {
    return { differing: await compareAttributes(left, right, signal) };
  } catch (error) {
    if (!hasCode(error, 'host.tool-output-too-big')) throw error;
    return { differing: [], reason: error.message };
  }
}
