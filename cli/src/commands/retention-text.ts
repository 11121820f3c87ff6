/** Policies, holds, requests and reasons as lines for a person. */
import { formatDuration } from '@lifeboat/foundation/units';
import { policyText } from '@lifeboat/runtime/retention-info';
import type { RetentionInfo } from '@lifeboat/runtime/retention-info';
import type { PruneResult } from '@lifeboat/runtime/retention-admin';
import type { Style } from '../text/style.ts';
import { formatInstant } from '../text/instant.ts';
import { fields, table } from '../text/table.ts';
import { printable } from '../text/width.ts';

type RequestInfo = RetentionInfo['requests'][number];
type MachinePlan = PruneResult['plan']['machines'][number];
type KeepReason = MachinePlan['points'][number]['keep'][number];

/** Entries that are said to change nothing; the rest are counted. */
const MAX_VOID_LINES = 5;

/** For `repo info`, and above everything else that shows retention. */
function guardLine({ fourEyes, delayMs }: Pick<RetentionInfo, 'fourEyes' | 'delayMs'>): string {
  const eyes = fourEyes
    ? 'four eyes: another key slot must approve'
    : 'four eyes are off: one key slot can do everything';
  const delay = delayMs === 0 ? 'no delay' : `a delay of ${formatDuration(delayMs)}`;
  return `${eyes}; ${delay} (pruning by hand, shorter policies, lifted holds, deletion of the tenant)`;
}

export function retentionLines(style: Style, info: RetentionInfo): string[] {
  const open = info.requests.filter(isOpen).length;
  const rows: (readonly [string, string])[] = [
    ['default', policyText(info.default?.policy)],
    ...info.machines.map(({ machineId, policy }) => [printable(machineId), policyText(policy)] as const),
    ['guard', guardLine(info)],
    ['holds', info.holds.length === 0 ? 'none' : `${info.holds.length} ("lifeboat repo hold list")`],
    ...(open > 0 ? [['requests', `${open} ("lifeboat repo requests list")`] as const] : []),
  ];
  return [...fields(rows), ...troubleLines(style, info)];
}

/** What is wrong with the ledger itself. */
export function troubleLines(style: Style, info: Pick<RetentionInfo, 'lost' | 'void'>): string[] {
  const hidden = info.void.length - MAX_VOID_LINES;
  return [
    ...info.lost.map(({ entry, why }) =>
      style.bad(printable(`entry ${entry} of the retention ledger is lost, so nothing is pruned: ${why}`)),
    ),
    ...info.void
      .slice(0, MAX_VOID_LINES)
      .map(({ entry, why }) => style.warn(printable(`entry ${entry} of the retention ledger changes nothing: ${why}`))),
    ...(hidden > 0 ? [style.warn(`and ${hidden} more entries`)] : []),
  ];
}

export function holdLines(info: RetentionInfo): string[] {
  if (info.holds.length === 0) return ['There are no holds.'];
  return table(
    [
      { title: 'Hold', align: 'right' },
      { title: 'Machine' },
      { title: 'Point' },
      { title: 'Since' },
      { title: 'By' },
      { title: 'Reason' },
    ],
    info.holds.map(({ entry, machineId, pointId, signedMs, label, reason }) => [
      String(entry),
      printable(machineId),
      printable(pointId ?? 'all'),
      formatInstant(signedMs),
      printable(label),
      printable(reason),
    ]),
  );
}

export function isOpen({ state }: RequestInfo): boolean {
  return state === 'waiting' || state === 'delayed' || state === 'due';
}

export function requestLines(requests: readonly RequestInfo[]): string[] {
  if (requests.length === 0) return ['Nothing is asked for.'];
  return table(
    [{ title: 'Request', align: 'right' }, { title: 'What' }, { title: 'By' }, { title: 'State' }, { title: 'Reason' }],
    requests.map((request) => [
      String(request.entry),
      actText(request.act),
      printable(`${request.label} (${request.slotId})`),
      stateText(request),
      printable(request.reason),
    ]),
  );
}

export function stateText({ state, readyMs, approval }: RequestInfo): string {
  const by = approval ? `, approved by ${printable(approval.label)}` : '';
  if (state === 'waiting') return 'waits for the approval of another key slot';
  if (state === 'delayed') return `waits until ${formatInstant(readyMs ?? 0)}${by}`;
  if (state === 'due') return `due${by}`;
  return `${state}${by}`;
}

export function actText(act: RequestInfo['act']): string {
  switch (act.kind) {
    case 'policy': {
      const whose = act.machineId === undefined ? 'default policy' : printable(`policy of ${act.machineId}`);
      if (act.policy) return `${whose}: ${policyText(act.policy)}`;
      return act.machineId === undefined ? 'no default policy' : `${whose}: the default again`;
    }
    case 'hold':
      return printable(`hold ${act.machineId} ${act.pointId ?? '(every point)'}`);
    case 'guard':
      return guardLine(act.guard);
    case 'lift':
      return `lift hold ${act.hold}`;
    case 'prune':
      return printable(`prune ${act.machineId} ${act.pointId}`);
    case 'delete-tenant':
      return 'delete the tenant';
    case 'write-off':
      return `write off entry ${act.entry}`;
    default:
      return `write off link ${act.link} of the chain of machine ${act.machineId}`;
  }
}

/** The table of the simulator, for one machine. */
export function planLines(style: Style, plan: MachinePlan, name: string): string[] {
  const { machineId, policy, source, points } = plan;
  const whose =
    source === 'none' ? '' : ` (${source === 'machine' ? 'its own' : 'the default'}, entry ${policy?.entry ?? 0})`;
  const title = name === machineId ? machineId : `${name} (${machineId})`;
  return [
    '',
    `${style.bold(printable(title))}: ${policyText(policy?.policy)}${whose}`,
    ...table(
      [{ title: 'Recovery point' }, { title: 'Shows' }, { title: 'Verdict' }, { title: 'Why' }],
      points.map(({ pointId, instantMs, keep, lockedUntilMs }) => [
        pointId,
        formatInstant(instantMs),
        keep.length > 0 ? style.good('keep') : style.bad('prune'),
        keep.length > 0
          ? printable(keep.map(reasonText).join(', '))
          : `no rule keeps it${lockedUntilMs === undefined ? '' : `; its bytes stay until ${formatInstant(lockedUntilMs)} (Object Lock)`}`,
      ]),
    ),
  ];
}

function reasonText(reason: KeepReason): string {
  switch (reason.kind) {
    case 'rule':
      if (reason.period === undefined) return reason.rule;
      return reason.oldest
        ? `${reason.rule} (the oldest, while periods are missing)`
        : `${reason.rule} ${reason.period}`;
    case 'newest':
      return 'newest';
    case 'newest-booted':
      return 'newest that was started';
    case 'future':
      return `${formatDuration(reason.aheadMs)} in the future`;
    case 'damaged':
      return 'damaged';
    case 'newer-release':
      return 'of a newer release';
    case 'held':
      return `hold ${reason.hold}${reason.reason === '' ? '' : ` (${reason.reason})`}`;
    case 'in-use':
      return `in use: ${reason.by}`;
    default:
      return 'nothing is pruned';
  }
}
