import type { VerifyPointInput, VerifyPointResult } from '@lifeboat/contracts/workflow/operations';
import type { CheckInput, CheckSummary, ProofLevel } from '@lifeboat/contracts/workflow/verbs';
import { BOOT_SCRATCH_BYTES, BOOT_STAGE, bootStage } from './boot-stage.ts';
import { newOpId } from './operation-id.ts';
import { runOperation } from './operation.ts';
import { pointInstantMs } from './point-instant.ts';

const CHECK_STAGE = 'check';

/** Only what was looked at: a content check opens every chunk, but hashes neither tables nor what no disk uses. */
const PROOF_OF_CHECK: Record<CheckInput['level'], readonly ProofLevel[]> = {
  present: ['stored'],
  ciphertext: ['stored', 'ciphertext'],
  content: ['stored', 'content'],
};

/** Checks a point's data, then boots it straight from the repository. A damaged point is not booted. */
export async function VerifyPoint(input: VerifyPointInput): Promise<VerifyPointResult> {
  const { machine, level, boot } = input;
  const opId = newOpId('boot');
  return await runOperation<VerifyPointResult>(
    {
      kind: 'verify',
      target: input,
      need: { slots: 1, domains: boot ? 1 : 0, scratchBytes: boot ? BOOT_SCRATCH_BYTES : 0 },
      opIds: boot ? [opId] : [],
      stages: boot ? [CHECK_STAGE, BOOT_STAGE] : [CHECK_STAGE],
    },
    async (operation) => {
      const { stages, verbs } = operation;
      const check = await stages.run(
        CHECK_STAGE,
        () => verbs.checkPoint({ machine, level, ...(input.pointId ? { pointId: input.pointId } : {}) }),
        (found) => [damagedPlaces(found)],
      );
      if (check.damage.length > 0) {
        stages.mark(CHECK_STAGE, 'failed', [damagedPlaces(check)]);
        return { verdict: 'damaged', check, proof: [] };
      }
      const proof = PROOF_OF_CHECK[level];
      if (!boot) return { verdict: 'sound', check, proof };
      // The point that was checked, also where "newest" has moved on meanwhile.
      const source = { kind: 'point', pointId: check.pointId } as const;
      const summary = await bootStage(operation, { opId, machine, source, boot });
      return summary.finding === 'ready'
        ? { verdict: 'proven', check, boot: summary, proof: [...proof, 'booted'] }
        : { verdict: 'not-booting', check, boot: summary, proof };
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

function damagedPlaces({ pointId, damage, unlistedPlaces = 0 }: CheckSummary): string {
  return `recovery point ${pointId}: ${damage.length + unlistedPlaces} damaged places`;
}
