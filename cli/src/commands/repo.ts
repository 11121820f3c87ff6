import { formatBytes, formatDuration } from '@lifeboat/foundation/units';
import { parseMachineId } from '@lifeboat/foundation/ids';
import type { Progress } from '@lifeboat/foundation/progress';
import {
  addWay,
  checkConfigured,
  checkConfiguredWithin,
  copyConfigured,
  infoOf,
  initConfigured,
  printKey,
  shredTenant,
  statsOf,
  withRepository,
  type PrintedKey,
} from '@lifeboat/runtime/repository-admin';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { RepoAction } from '../repo-program.ts';
import { keyPageHtml, keyPageText } from '../key-page.ts';
import { formatInstant } from '../text/instant.ts';
import { fields, table } from '../text/table.ts';
import { printable } from '../text/width.ts';
import type { Style } from '../text/style.ts';
import { agentsCommand } from './agents.ts';
import { badLine, goodLine } from './findings.ts';
import { pruneCommand } from './prune.ts';
import { retentionCommand } from './retention.ts';
import { retentionLines } from './retention-text.ts';

const MAX_NAMED_OF_A_KIND = 20;

type Info = Awaited<ReturnType<typeof infoOf>>;
type Keys = Change['info'];
type Change = Awaited<ReturnType<typeof addWay>>;

/** Short acts on the repository in this process: no Temporal, no hypervisor. */
export async function repoCommand(context: CommandContext, action: RepoAction): Promise<ExitCode> {
  const { configuration, output, signal } = context;
  switch (action.kind) {
    case 'init': {
      const info = await initConfigured(configuration, action);
      output.result(info, infoLines(output.style, info));
      return EXIT.done;
    }
    case 'info': {
      const info = await infoOf(configuration);
      output.result(info, infoLines(output.style, info));
      return EXIT.done;
    }
    case 'stats': {
      const stats = await statsOf(configuration, { signal });
      output.result(stats, [
        ...fields([
          ['points', `${stats.points}${stats.damagedPoints > 0 ? ` (${stats.damagedPoints} damaged)` : ''}`],
          ['packs', `${stats.packs.count}, ${formatBytes(stats.packs.bytes)}`],
          ['index', `${stats.indexSegments.count} segments, ${formatBytes(stats.indexSegments.bytes)}`],
        ]),
        ...table(
          [{ title: 'Machine' }, { title: 'Points', align: 'right' }, { title: 'Disks' }, { title: 'Newest' }],
          stats.machines.map((machine) => [
            machine.machineId,
            String(machine.points),
            formatBytes(machine.diskBytes),
            formatInstant(machine.newestMs),
          ]),
        ),
      ]);
      return stats.damagedPoints > 0 ? EXIT.negative : EXIT.done;
    }
    case 'check':
      return check(context, action);
    case 'prune':
      return pruneCommand(context, action);
    case 'copy':
      return copy(context, action);
    case 'keys-list': {
      const info = await withRepository(configuration, (repository) => repository.keys.info({ signal }));
      output.result(info, keysLines(info));
      return EXIT.done;
    }
    case 'keys-add':
      return changed(context, await addWay(configuration, action));
    case 'keys-print':
      return print(context, action);
    case 'keys-remove':
      return changed(
        context,
        await withRepository(configuration, (repository) => repository.keys.remove(action.slot, { signal })),
      );
    case 'keys-rotate':
      return changed(context, await withRepository(configuration, (repository) => repository.keys.rotate({ signal })));
    case 'keys-shred': {
      const result = await shredTenant(configuration, action.confirm);
      if (result.outcome === 'requested') {
        output.result(result, [
          `asked for: request ${result.request ?? ''} waits ("lifeboat repo requests list"); repeat the command when it is due`,
        ]);
        return EXIT.requested;
      }
      const keys = result.destroyedKeys.join(', ');
      output.result(result, [
        goodLine(output.style, `tenant ${result.tenantId} cannot be read any more; destroyed: ${keys}`),
      ]);
      return EXIT.done;
    }
    case 'keys-grant':
    case 'agents-enrol':
    case 'agents-list':
    case 'agents-policy':
    case 'agents-revoke':
      return agentsCommand(context, action);
    default:
      return retentionCommand(context, action);
  }
}

async function check(context: CommandContext, action: Extract<RepoAction, { kind: 'check' }>): Promise<ExitCode> {
  const { configuration, output, stages, display, signal } = context;
  const { level, machine } = action;
  const machineId = machine === undefined ? undefined : parseMachineId(machine);
  if (action.budget) return checkWithin(context, { ...action, budget: action.budget, machineId });
  const listener = {
    begin: (point: string): void => stages.begin(point, `Check ${point}`),
    progress: (point: string, progress: Progress): void => stages.update(point, progress),
    end: (point: string, sound: boolean): void => stages.end(point, sound ? 'done' : 'failed'),
  };
  const { points, losses, chains, objects } = await checkConfigured(
    configuration,
    { level, machineId, listener },
    { signal },
  );
  display.close();
  output.result({ level, points, losses, chains, objects }, [
    ...points.flatMap(({ point, sound }) => (sound ? [goodLine(output.style, `${point}: whole (${level})`)] : [])),
    ...damageLines(output.style, points, losses),
    ...findingLines(output.style, [...chains, ...objects]),
  ]);
  const isWhole = points.every(({ sound }) => sound) && ![...chains, ...objects].some(({ isLoss }) => isLoss);
  return isWhole ? EXIT.done : EXIT.negative;
}

type Within = Awaited<ReturnType<typeof checkConfiguredWithin>>;

async function checkWithin(
  context: CommandContext,
  how: Pick<Parameters<typeof checkConfiguredWithin>[1], 'level' | 'budget' | 'dryRun' | 'machineId'>,
): Promise<ExitCode> {
  const { configuration, output, stages, display, signal } = context;
  const { level, budget, dryRun = false, machineId } = how;
  stages.begin('check', dryRun ? 'See what was checked' : 'Check packs');
  const progress = (now: Progress): void => stages.update('check', now);
  const input = { level, budget, dryRun, machineId };
  const found = await checkConfiguredWithin(configuration, input, { signal, progress });
  const isWhole = found.points.length === 0 && !found.chains.some(({ isLoss }) => isLoss);
  stages.end('check', isWhole ? 'done' : 'failed');
  display.close();
  output.result({ dryRun, budget, ...found }, withinLines(output.style, found));
  return isWhole ? EXIT.done : EXIT.negative;
}

/** What was not looked at is named as such: only packs that were looked at are called whole. */
export function withinLines(style: Style, found: Within): string[] {
  const { level, looked, points, losses, chains, coverage, next } = found;
  const { never, oldestMs, within } = coverage;
  const amount = ({ packs, bytes }: { packs: number; bytes: number }): string =>
    `${packs} packs, ${formatBytes(bytes)}`;
  const whole = points.length === 0 && looked.packs > 0;
  const said = `${amount(looked)} looked at (${level}) in ${formatDuration(looked.durationMs)}`;
  const then =
    next.oldestMs === undefined ? 'never looked at so far' : `last looked at ${formatInstant(next.oldestMs)} or later`;
  return [
    ...(looked.packs === 0 ? [] : [whole ? goodLine(style, `${said}: whole`) : said]),
    ...damageLines(style, points, losses),
    ...findingLines(style, chains),
    ...fields([
      ['points need', amount(coverage)],
      ['never looked at', never.packs === 0 ? 'none' : style.warn(amount(never))],
      ['oldest look', oldestMs === undefined ? 'none' : formatInstant(oldestMs)],
      ...within.map(
        ({ days, packs, bytes }) =>
          [`within ${days} d`, `${amount({ packs, bytes })} (${percent(packs, coverage.packs)})`] as const,
      ),
      ['next', next.packs === undefined ? then : `${amount({ packs: next.packs, bytes: next.bytes ?? 0 })}, ${then}`],
    ]),
  ];
}

/** Rounded down: 100 % is said of all of it alone. */
function percent(part: number, all: number): string {
  return all === 0 ? 'nothing there' : `${Math.floor((part / all) * 100)} %`;
}

function damageLines(style: Style, points: Within['points'], losses: Within['losses']): string[] {
  return [
    ...points.flatMap(({ point, sound, reason, disks }) =>
      sound ? [] : [badLine(style, `${point}: damaged in ${disks.length} places of its disks: ${reason ?? ''}`)],
    ),
    ...losses.map(({ machineName, disk, partition, lostBytes, points: hit }) =>
      badLine(
        style,
        `${machineName}, disk ${disk}, ${partition}: ${formatBytes(lostBytes)} lost in ${hit.length} recovery points: ${hit.join(', ')}`,
      ),
    ),
  ];
}

/** A few of each kind: who deletes points may have deleted thousands. `--json` names all. */
function findingLines(
  style: Style,
  findings: readonly {
    readonly kind: string;
    readonly isLoss: boolean;
    readonly what: string;
    readonly next: string;
  }[],
): string[] {
  const named = new Map<string, number>();
  const lines: string[] = [];
  for (const { kind, isLoss, what, next } of findings) {
    const count = (named.get(kind) ?? 0) + 1;
    named.set(kind, count);
    if (count > MAX_NAMED_OF_A_KIND) continue;
    lines.push(isLoss ? badLine(style, `${what}. ${next}`) : printable(`  ${what}. ${next}`));
  }
  for (const [kind, count] of named)
    if (count > MAX_NAMED_OF_A_KIND)
      lines.push(`  and ${count - MAX_NAMED_OF_A_KIND} more of ${kind}; --json names them`);
  return lines;
}

async function copy(context: CommandContext, action: Extract<RepoAction, { kind: 'copy' }>): Promise<ExitCode> {
  const { configuration, output, stages, display, signal } = context;
  const { machine, policies, ...target } = action;
  stages.begin('copy', 'Copy recovery points');
  const copied = await copyConfigured(
    configuration,
    { target, policies, ...(machine === undefined ? {} : { machine }) },
    { signal, progress: (progress) => stages.update('copy', progress) },
  );
  const { points, holds } = copied;
  const bad = points.filter(({ outcome }) => outcome === 'damaged');
  stages.end('copy', bad.length === 0 ? 'done' : 'failed');
  display.close();
  const many = (outcome: string): number => points.filter((point) => point.outcome === outcome).length;
  output.result(copied, [
    goodLine(output.style, `${many('copied')} points copied and read back, ${many('there')} were there already`),
    ...(holds.set > 0 ? [`${holds.set} holds set there`] : []),
    ...holds.lostEntries.map((entry) =>
      output.style.bad(`entry ${entry} of the retention ledger is lost here: if it was a hold, it is missing there`),
    ),
    ...policyLines(copied.policies),
    ...bad.map(({ machineId, pointId, reason }) => badLine(output.style, `${machineId} ${pointId}: ${reason ?? ''}`)),
  ]);
  return bad.length === 0 && holds.lostEntries.length === 0 ? EXIT.done : EXIT.negative;
}

function policyLines(policies: { set: number; requested: number } | undefined): string[] {
  if (!policies) return [];
  const { set, requested } = policies;
  return [
    `${set} policies set there${requested > 0 ? `, ${requested} asked for: they wait for approval or delay` : ''}`,
  ];
}

/** On stdout the page is the result; a page in a file is not repeated there. */
async function print(
  { configuration, output: out }: CommandContext,
  { label, output: path }: Extract<RepoAction, { kind: 'keys-print' }>,
): Promise<ExitCode> {
  if (path === undefined) {
    const page = await printKey(configuration, { label });
    out.result(page, keyPageText(page));
    return EXIT.done;
  }
  const render = path.endsWith('.html') ? keyPageHtml : (page: PrintedKey) => `${keyPageText(page).join('\n')}\n`;
  const { lines: _secret, ...page } = await printKey(configuration, { label, output: { path, render } });
  out.result({ ...page, output: path }, [
    `the page of slot ${page.slotId} is in ${printable(path)}: print it, read it back, and delete the file`,
  ]);
  return EXIT.done;
}

function changed({ output }: CommandContext, { info, kept }: Change): ExitCode {
  output.result({ ...info, kept }, [
    ...keysLines(info),
    ...kept.map((object) =>
      output.style.warn(printable(`the store did not delete ${object}: removed secrets still open it`)),
    ),
  ]);
  return EXIT.done;
}

function infoLines(style: Style, info: Info): string[] {
  return [
    ...fields([
      ['repository', info.repositoryId],
      ['place', printable(info.place)],
      ['made', formatInstant(info.createdMs)],
      ['chunks', formatBytes(info.chunkSizeBytes)],
    ]),
    ...info.tenants.flatMap((tenant) => ['', ...keysLines(tenant), ...retentionLines(style, tenant.retention)]),
  ];
}

function keysLines(keys: Keys): string[] {
  return [
    `tenant ${printable(keys.tenantName)} ${keys.tenantId}, epoch ${keys.epoch}`,
    ...table(
      [{ title: 'Slot' }, { title: 'Kind' }, { title: 'Label' }, { title: 'Since' }],
      keys.slots.map((slot) => [
        slot.slotId,
        printable(slot.keyRef === undefined ? slot.kind : `${slot.kind} (${slot.provider}: ${slot.keyRef})`),
        printable(slot.label),
        formatInstant(slot.createdMs),
      ]),
    ),
    keys.shred.possible
      ? 'shreddable: destroying its keys in the key service makes it unreadable for good'
      : printable(`not shreddable: ${keys.shred.obstacles.join('; ')}`),
  ];
}
