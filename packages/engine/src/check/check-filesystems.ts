/**
 * The filesystem level: every volume of a point checked after its journal was replayed, then the programs an operator asked for run over the
 * mounted guest. All of it in overlays that are thrown away, over the point as it is served from the repository.
 *
 * Proven is a disk of which every volume was checked and is sound. What could not be checked keeps its disk from being proven, and is named.
 */
import { basename, join } from 'node:path';
import { hasCode, messageOf } from '@lifeboat/foundation/errors';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { runTool } from '@lifeboat/host/children';
import { type GuestDisk, withEditableGuest } from '@lifeboat/guest/access/open-guest';
import { checkVolumes } from '@lifeboat/guest/check/check-volumes';
import type { EngineDeps } from '../deps.ts';
import { failed, proven, recordEvidence } from '../evidence/record-evidence.ts';
import { beginOperation } from '../operations.ts';
import { findPoint } from '../points.ts';
import type { FilesystemCheckInput, FilesystemCheckSummary } from '../verbs.ts';

const PROGRAM_TIMEOUT_MS = 4 * 3_600_000;
const OUTPUT_CHARACTERS = 4096;
/** As a shell says of a command that it could not run. */
const EXIT_NOT_RUN = 126;
const ANY_CODE = Array.from({ length: 256 }, (_, code) => code);

type Program = FilesystemCheckSummary['programs'][number];

export async function checkFilesystems(
  deps: EngineDeps,
  input: FilesystemCheckInput,
  context: VerbContext,
): Promise<FilesystemCheckSummary> {
  const intent = { verb: 'check-filesystems', machine: input.machine } as const;
  const operation = await beginOperation(deps, input, intent, context.signal);
  const { directory, qemuDirectory, signal } = operation;
  let assertServing = (): void => {};
  try {
    const beganMs = deps.clock.nowMs();
    const startedMs = deps.clock.monotonicMs();
    const { machineId, pointId } = await findPoint(deps.repository, input.machine, input.pointId);
    const served = await deps.exporter({ machineId, pointId, directory, qemuDirectory }, { signal });
    operation.onClose(() => served.stop());
    assertServing = () => served.assertServing();
    const disks = served.disks.map(({ name }): GuestDisk => ({
      name,
      image: { nbdSocketPath: served.socketPath, nbdExportName: name },
    }));
    const within = { signal, progress: context.progress };
    const { volumes, hives } = await checkVolumes({ disks, directory: join(directory, 'volumes') }, within);
    // A volume whose disk failed to answer looks damaged.
    assertServing();
    const isDamaged = [...volumes, ...hives].some(({ result }) => result === 'damaged');
    // On a damaged filesystem they would find its damage once more, or hang on it.
    const programs = isDamaged
      ? []
      : await runPrograms(input.programs ?? [], { disks, directory: join(directory, 'guest') }, within);
    assertServing();
    const summary = {
      pointId,
      volumes,
      hives,
      programs,
      durationMs: Math.round(deps.clock.monotonicMs() - startedMs),
    };
    await record(deps, { machineId, input, summary, beganMs, signal });
    return summary;
  } catch (error) {
    // Then this is why.
    if (!signal.aborted) assertServing();
    throw error;
  } finally {
    await operation.close({ remove: false });
  }
}

/** Each gets the guest's root, and its other filesystems as `mount point=path`, all for writing; 0 is good. */
async function runPrograms(
  programs: readonly string[],
  access: { readonly disks: readonly GuestDisk[]; readonly directory: string },
  { signal, progress }: VerbContext,
): Promise<Program[]> {
  if (programs.length === 0) return [];
  return await withEditableGuest(
    { ...access, signal, filesystems: 'all' },
    {
      async work({ mounts }) {
        const [root, ...others] = mounts;
        const args = [root?.hostPath ?? '', ...others.map(({ mountPoint, hostPath }) => `${mountPoint}=${hostPath}`)];
        const ended: Program[] = [];
        for (const program of programs) {
          progress({ phase: 'programs', doneBytes: 0, detail: basename(program) });
          ended.push(await runProgram(program, args, signal));
        }
        return ended;
      },
      // What they wrote goes with the overlays.
      changes: async (_, ended) => ended,
    },
  );
}

async function runProgram(program: string, args: readonly string[], signal: AbortSignal): Promise<Program> {
  const startedMs = performance.now();
  const end = (exitCode: number, output: string): Program => ({
    program,
    exitCode,
    output: output.trim().slice(-OUTPUT_CHARACTERS),
    durationMs: Math.round(performance.now() - startedMs),
  });
  try {
    const { code, stdout, stderr } = await runTool(program, args, {
      timeoutMs: PROGRAM_TIMEOUT_MS,
      okCodes: ANY_CODE,
      signal,
    });
    return end(code, `${stdout}\n${stderr}`);
  } catch (error) {
    if (!hasCode(error, 'host.tool-missing', 'host.tool-failed', 'host.tool-timeout', 'host.tool-output-too-big'))
      throw error;
    return end(EXIT_NOT_RUN, messageOf(error));
  }
}

async function record(
  deps: EngineDeps,
  done: {
    readonly machineId: Awaited<ReturnType<typeof findPoint>>['machineId'];
    readonly input: FilesystemCheckInput;
    readonly summary: FilesystemCheckSummary;
    readonly beganMs: number;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { machineId, input, summary, beganMs, signal } = done;
  const { pointId, volumes, hives, programs } = summary;
  const disksOf = (picked: readonly { readonly disk: string }[]): string[] => [
    ...new Set(picked.map(({ disk }) => disk)),
  ];
  const looked = [
    ...volumes.map(({ disk, type, result, detail }) => ({ disk, what: type, result, detail })),
    ...hives.map(({ disk, path, result, detail }) => ({ disk, what: path, result, detail })),
  ];
  const damaged = looked.filter(({ result }) => result === 'damaged');
  const open = new Set(disksOf(looked.filter(({ result }) => result !== 'sound')));
  const sound = disksOf(volumes).filter((disk) => !open.has(disk));
  const bad = programs.find(({ exitCode }) => exitCode !== 0);
  const claims = [
    ...(damaged[0]
      ? [failed(pointId, 'filesystem', { disks: disksOf(damaged), reason: `${damaged[0].what}: ${damaged[0].detail}` })]
      : []),
    // All of its disks: that is said without naming them.
    ...(sound.length > 0 ? proven(pointId, ['filesystem'], open.size === 0 ? [] : sound) : []),
    ...(bad ? [failed(pointId, 'application', { reason: `${basename(bad.program)} ended with ${bad.exitCode}` })] : []),
    ...(programs.length > 0 && !bad ? proven(pointId, ['application']) : []),
  ];
  const skipped = volumes.filter(({ result }) => result === 'not-checked').length;
  const text = `${volumes.length - skipped} volumes checked, ${damaged.length} damaged, ${skipped} not checked; ${programs.length} programs`;
  const what = { operation: 'check-filesystems', operationId: input.opId, beganMs, summary: text };
  await recordEvidence(deps, { machineId, ...what, claims }, signal);
}
