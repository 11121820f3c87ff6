import { abandonOperation } from './abandon.ts';
import { bootTest } from './boot-test/boot-test.ts';
import { captureMachine } from './capture/capture-machine.ts';
import { checkFilesystems } from './check/check-filesystems.ts';
import { checkPoint } from './check/check-point.ts';
import type { EngineDeps } from './deps.ts';
import { listEvidence, withProof } from './evidence/list-evidence.ts';
import { inspectPoint } from './inspect/inspect-point.ts';
import { defineMachine } from './machine/define-machine.ts';
import { pointsOf, summarise } from './points.ts';
import { compareFiles } from './redeploy/compare-files.ts';
import { preflight } from './redeploy/preflight.ts';
import { applyRedeploy, planRedeploy } from './redeploy/redeploy.ts';
import { listRedeploys, revertRedeploy } from './redeploy/revert-redeploy.ts';
import { planRestore } from './restore/plan-restore.ts';
import { restoreDisks } from './restore/restore-disks.ts';
import type { Engine } from './verbs.ts';

/** The verbs over their dependencies. */
export function createEngine(deps: EngineDeps): Engine {
  return {
    captureMachine: (input, context) => captureMachine(deps, input, context),
    checkPoint: (input, context) => checkPoint(deps, input, context),
    checkFilesystems: (input, context) => checkFilesystems(deps, input, context),
    bootTest: (input, context) => bootTest(deps, input, context),
    restoreDisks: (input, context) => restoreDisks(deps, input, context),
    planRestore: (input, context) => planRestore(deps, input, context),
    planRedeploy: (input, context) => planRedeploy(deps, input, context),
    applyRedeploy: (input, context) => applyRedeploy(deps, input, context),
    defineMachine: (input, context) => defineMachine(deps, input, context),
    preflight: (input, context) => preflight(deps, input, context),
    listRedeploys: () => listRedeploys(deps),
    revertRedeploy: (input, context) => revertRedeploy(deps, input, context),
    compareFiles: (input, context) => compareFiles(deps, input, context),
    abandonOperation: (input, context) => abandonOperation(deps, input, context),
    inspectPoint: (input, context) => inspectPoint(deps, input, context),
    linkPoints: ({ machineId }, { signal }) => deps.repository.linkPoints(machineId, { signal }),
    async listPoints(machine, { proof = false, ...options } = {}) {
      const { repository } = deps;
      const listings = machine === undefined ? await repository.points() : await pointsOf(repository, machine);
      const points = listings.map(summarise);
      return proof ? withProof(repository, points, options) : points;
    },
    listEvidence: (machine, options) => listEvidence(deps, machine, options),
  };
}
