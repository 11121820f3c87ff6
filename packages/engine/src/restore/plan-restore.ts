/** What a restore would write, and onto what: for a person to see before it is done. Reads the repository and the target; writes nothing. */
import { renderLayout } from '@lifeboat/disk/layout/render-layout';
import { planLayout } from '@lifeboat/disk/layout/plan-layout';
import type { VerbContext } from '@lifeboat/foundation/progress';
import { formatBytes } from '@lifeboat/foundation/units';
import type { EngineDeps } from '../deps.ts';
import { findPoint } from '../points.ts';
import type { RestorePlanInput, RestorePlanSummary } from '../verbs.ts';
import { chooseTarget, claimTarget } from './claim-target.ts';
import { diskOf, layoutDisk, requestFor } from './layout-request.ts';
import { readLayoutSource } from './layout-source.ts';
import { assertPlanned } from './lay-out-disk.ts';

export async function planRestore(
  deps: Pick<EngineDeps, 'repository' | 'hypervisor'>,
  input: RestorePlanInput,
  { signal }: VerbContext,
): Promise<RestorePlanSummary> {
  const point = await findPoint(deps.repository, input.machine, input.pointId);
  const { target, layout } = input;
  const { pointId } = point;
  const device = target.kind === 'device' ? await lookAt(deps, target.path) : undefined;
  const lines = device ? [describe(device)] : [];
  const summary = { pointId, warnings: [], ...(device ? { device } : {}) };
  if (!layout) return { ...summary, lines };
  const disk = target.kind === 'device' ? diskOf(point, target.disk) : layoutDisk(point, layout);
  const source = deps.repository.openDisk(point, disk.name);
  try {
    const room = device?.identity ?? { sizeBytes: layout.sizeBytes ?? disk.root.sizeBytes };
    const request = await requestFor(layout, room, source, signal);
    const plan = assertPlanned(planLayout(await readLayoutSource(disk.name, source, { signal }), request));
    return { ...summary, lines: [...lines, ...renderLayout(plan)], warnings: plan.warnings };
  } finally {
    await source.close();
  }
}

async function lookAt(
  { hypervisor }: Pick<EngineDeps, 'hypervisor'>,
  named: string,
): Promise<NonNullable<RestorePlanSummary['device']>> {
  const path = await chooseTarget(named);
  const claim = await claimTarget(hypervisor, path);
  try {
    return { path, identity: claim.identity };
  } finally {
    await claim.release();
  }
}

function describe({ path, identity }: NonNullable<RestorePlanSummary['device']>): string {
  const { sizeBytes, serial, wwn, model } = identity;
  const facts = [
    formatBytes(sizeBytes),
    ...(model ? [model] : []),
    ...(serial ? [`serial ${serial}`] : []),
    ...(wwn ? [`wwn ${wwn}`] : []),
  ];
  return `Target ${path}: ${facts.join(', ')}; all it holds is overwritten`;
}
