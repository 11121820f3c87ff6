import { formatBytes } from '@lifeboat/foundation/units';
import type { InjectionResult } from '../inject/inject-drivers.ts';
import type { PlannedEdit, RedeployPlan } from './redeploy-plan.ts';

/** The plan for a terminal, a line each; plain text. */
export function renderPlan(plan: RedeployPlan): string[] {
  const lines = [`${plan.guest} onto '${plan.profile.name}': ${plan.profile.description}`];
  for (const { kernelVersion, resolution } of plan.drivers) {
    lines.push(`kernel ${kernelVersion}`);
    for (const request of resolution.requests) {
      const answer = request.modules.length > 0 ? request.modules.join(', ') : 'no driver';
      lines.push(`  ${request.role}: ${request.device} asks ${request.modalias}: ${answer}`);
    }
  }
  for (const edit of plan.edits) {
    lines.push(`edit ${edit.path}: ${describeEdit(edit)}`, `  because ${edit.why}`);
  }
  if (plan.edits.length === 0 && plan.refusals.length === 0)
    lines.push('nothing to change: every driver is already there');
  lines.push(...plan.warnings.map((warning) => `warning: ${warning}`));
  lines.push(...plan.refusals.map((refusal) => `refused (${refusal.code}): ${refusal.text}`));
  return lines;
}

function describeEdit(edit: PlannedEdit): string {
  switch (edit.kind) {
    case 'append-drivers':
      return `append to the initrd ${edit.modules.join(', ')}`;
    case 'keep-drivers':
      return `list for later initrds ${edit.modules.join(', ')}`;
    case 'rename-disks':
    case 'rename-cards':
      return [...new Set(edit.names.map(({ from, to }) => `${from} becomes ${to}`))].join(', ');
    case 'add-mount':
      return `add "${edit.line}"`;
    case 'empty-file':
      return 'empty it';
    case 'new-host-key':
      return `make a new ${edit.keyType} key`;
    default:
      return 'remove it';
  }
}

/** What was really installed, for a terminal. */
export function renderInjection(result: InjectionResult): string[] {
  return result.kernels.map(
    (kernel) =>
      `kernel ${kernel.version}: ${kernel.addedModules.length} modules added (${kernel.addedModules.join(', ')}), ${kernel.modules.length} in the initrd now, ${formatBytes(kernel.addedBytes)}`,
  );
}
