/** `lifeboat repo policy`, `hold`, `requests`, `prune-point` and `prune-vanished`: short acts on the retention ledger. */
import {
  addHold,
  approveRequest,
  liftHold,
  prunePoint,
  pruneVanished,
  setGuard,
  setPolicy,
  showRetention,
  withdrawRequest,
  writeOff,
} from '@lifeboat/runtime/retention-admin';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { RetentionAction } from '../retention-program.ts';
import { formatInstant } from '../text/instant.ts';
import { goodLine } from './findings.ts';
import { actText, holdLines, isOpen, requestLines, retentionLines, stateText, troubleLines } from './retention-text.ts';

type Result = Awaited<ReturnType<typeof setPolicy>>;
type Info = Awaited<ReturnType<typeof showRetention>>;

export async function retentionCommand(
  context: CommandContext,
  action: Exclude<RetentionAction, { kind: 'prune' }>,
): Promise<ExitCode> {
  const { configuration, output, signal } = context;
  const at = { signal };
  switch (action.kind) {
    case 'policy-show': {
      const info = await showRetention(configuration, at);
      output.result(info, retentionLines(output.style, info));
      return info.lost.length > 0 ? EXIT.negative : EXIT.done;
    }
    case 'policy-set':
      return acted(context, await setPolicy(configuration, action, at));
    case 'policy-guard':
      return acted(context, await setGuard(configuration, action, at));
    case 'policy-write-off':
      return acted(context, await writeOff(configuration, action, at));
    case 'hold-add':
      return acted(context, await addHold(configuration, action, at));
    case 'hold-lift':
      return acted(context, await liftHold(configuration, action, at));
    case 'prune-point':
      return acted(context, await prunePoint(configuration, action, at));
    case 'prune-vanished': {
      const { dryRun } = action;
      const found = await pruneVanished(configuration, action, at);
      const { points, requests } = found;
      const what = dryRun ? 'would be let go of' : requests.length > 0 ? 'asked for' : 'let go of';
      output.result({ ...found, dryRun }, [
        goodLine(output.style, `points that are gone without having been pruned, ${what}: ${points.length}`),
        ...points.map((point) => `  ${point}`),
      ]);
      return requests.length > 0 ? EXIT.requested : EXIT.done;
    }
    case 'hold-list': {
      const info = await showRetention(configuration, at);
      const { holds, lost } = info;
      output.result({ holds, lost }, [...holdLines(info), ...troubleLines(output.style, { lost, void: [] })]);
      return lost.length > 0 ? EXIT.negative : EXIT.done;
    }
    case 'requests-list': {
      const { requests } = await showRetention(configuration, at);
      const shown = action.all ? requests : requests.filter(isOpen);
      output.result({ requests: shown }, requestLines(shown));
      return EXIT.done;
    }
    case 'requests-approve':
      return looked(context, action.request, await approveRequest(configuration, action, at));
    default:
      return looked(context, action.request, await withdrawRequest(configuration, action, at));
  }
}

/** An act that was done, or one that is asked for now. */
function acted({ output }: CommandContext, { outcome, entry, act, retention }: Result): ExitCode {
  const request = retention.requests.find((candidate) => candidate.entry === entry);
  const number = entry === undefined ? '' : ` (entry ${entry} of the retention ledger)`;
  output.result(
    { outcome, entry: entry ?? null, act, ...(request ? { request } : {}) },
    outcome === 'done'
      ? [goodLine(output.style, `done: ${actText(act)}${number}`)]
      : [
          `asked for: ${actText(act)}`,
          `request ${entry ?? ''} ${request ? stateText(request) : ''}; "lifeboat repo requests approve ${entry ?? ''}" approves it, ` +
            'and the next "lifeboat repo prune" carries out what is due.',
        ],
  );
  return outcome === 'done' ? EXIT.done : EXIT.requested;
}

function looked({ output }: CommandContext, number: number, info: Info): ExitCode {
  const request = info.requests.find(({ entry }) => entry === number);
  output.result({ request: request ?? null }, [
    ...(request ? requestLines([request]) : []),
    ...(request?.state === 'delayed'
      ? [`The next "lifeboat repo prune" after ${formatInstant(request.readyMs ?? 0)} carries it out.`]
      : []),
  ]);
  return EXIT.done;
}
