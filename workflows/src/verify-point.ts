import type { VerifyPointInput, VerifyPointResult } from '@lifeboat/contracts/workflow/operations';
import type { CheckInput, CheckSummary, FilesystemCheckSummary, ProofLevel } from '@lifeboat/contracts/workflow/verbs';
import { BOOT_SCRATCH_BYTES, BOOT_STAGE, bootStage } from './boot-stage.ts';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';
import { pointInstantMs } from './point-instant.ts';

const CHECK_STAGE = 'check';
const FILESYSTEMS_STAGE = 'check filesystems';

/** Only what was looked at: a content check opens every chunk, but hashes neither tables nor what no disk uses. */
const PROOF_OF_CHECK: Record<CheckInput['level'], readonly ProofLevel[]> = {
  present: ['stored'],
  ciphertext: ['stored', 'ciphertext'],
  content: ['stored', 'content'],
};

/**
 * Checks a point's data, then its filesystems, then boots it straight from the repository, as far as that was asked for. A damaged point is not
 * booted; one with a damaged filesystem is not either: that it starts would not make it whole.
 */
export async function VerifyPoint(input: VerifyPointInput): Promise<VerifyPointResult> {
  const { machine, level, boot } = input;
  const opId = newOpId('boot');
  const filesystemsOpId = input.filesystems ? newOpId('fsc') : undefined;
  return await runOperation<VerifyPointResult>(
    {
      kind: 'verify',
      target: input,
      need: { slots: 1, domains: boot ? 1 : 0, scratchBytes: boot || filesystemsOpId ? BOOT_SCRATCH_BYTES : 0 },
      opIds: [...(filesystemsOpId ? [filesystemsOpId] : []), ...(boot ? [opId] : [])],
      stages: [CHECK_STAGE, ...(filesystemsOpId ? [FILESYSTEMS_STAGE] : []), ...(boot ? [BOOT_STAGE] : [])],
    },
    async (operation) => {
      const { stages, verbs, undo, epoch } = operation;
      const check = await stages.run(
        CHECK_STAGE,
        () => verbs.checkPoint({ machine, level, ...(input.pointId ? { pointId: input.pointId } : {}) }),
        (found) => [damagedPlaces(found)],
      );
      if (check.damage.length > 0) {
        stages.mark(CHECK_STAGE, 'failed', [damagedPlaces(check)]);
        return { verdict: 'damaged', check, proof: [] };
      }
      const { pointId } = check;
      let proof = PROOF_OF_CHECK[level];
      let found: { readonly filesystems?: FilesystemCheckSummary } = {};
      if (input.filesystems && filesystemsOpId) {
        const { programs } = input.filesystems;
        undo.register(FILESYSTEMS_STAGE, () => verbs.abandonOperation({ opId: filesystemsOpId, removeTargets: false }));
        const filesystems = await stages.run(
          FILESYSTEMS_STAGE,
          () => verbs.checkFilesystems({ opId: filesystemsOpId, epoch, machine, pointId, programs }),
          (summary) => [filesystemsText(summary)],
        );
        found = { filesystems };
        const verdict = verdictOn(filesystems);
        if (verdict !== 'sound') {
          stages.mark(FILESYSTEMS_STAGE, 'failed', [filesystemsText(filesystems)]);
          return { verdict, check, filesystems, proof };
        }
        proof = [...proof, 'filesystem', ...(programs.length > 0 ? (['application'] as const) : [])];
      }
      if (!boot) return { verdict: 'sound', check, ...found, proof };
      // The point that was checked, also where "newest" has moved on meanwhile.
      const source = { kind: 'point', pointId } as const;
      const summary = await bootStage(operation, { opId, machine, source, boot });
      return summary.finding === 'ready'
        ? { verdict: 'proven', check, ...found, boot: summary, proof: [...proof, 'booted'] }
        : { verdict: 'not-booting', check, ...found, boot: summary, proof };
    },
    ({ verdict, check, boot, proof }) => ({
      point: {
        pointId: check.pointId,
        instantMs: pointInstantMs(check.pointId),
        proof,
        ...(verdict === 'damaged' ? { damaged: true, damagedAt: PROOF_OF_CHECK[check.level].slice(-1) } : {}),
      },
      ...(boot?.finding === 'ready' ? { provenRtoMs: boot.elapsedMs } : {}),
    }),
  );
}

/** A volume that could not be looked at is not sound, and neither is a machine without any. */
function verdictOn({ volumes, hives, programs }: FilesystemCheckSummary): 'sound' | 'inconsistent' | 'unproven' {
  const isBad =
    [...volumes, ...hives].some(({ result }) => result === 'damaged') ||
    programs.some(({ exitCode }) => exitCode !== 0);
  if (isBad) return 'inconsistent';
  return volumes.length > 0 && volumes.every(({ result }) => result === 'sound') ? 'sound' : 'unproven';
}

function filesystemsText({ volumes, hives, programs }: FilesystemCheckSummary): string {
  const count = (result: string): number => [...volumes, ...hives].filter((one) => one.result === result).length;
  const bad = programs.filter(({ exitCode }) => exitCode !== 0).length;
  return `filesystems: ${count('sound')} sound, ${count('damaged')} damaged, ${count('not-checked')} not checked; programs: ${programs.length - bad} good, ${bad} not`;
}

function damagedPlaces({ pointId, damage, unlistedPlaces = 0 }: CheckSummary): string {
  return `recovery point ${pointId}: ${damage.length + unlistedPlaces} damaged places`;
}
