import { formatDuration } from '@lifeboat/foundation/units';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import type { RedeploysAction } from '../redeploys-program.ts';
import { formatInstant } from '../text/instant.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';
import { goodLine } from './findings.ts';

/** In this process, without Temporal: the journal is enough. */
export async function redeploysCommand(context: CommandContext, action: RedeploysAction): Promise<ExitCode> {
  return action.kind === 'list' ? await list(context) : await revert(context, action);
}

async function list(context: CommandContext): Promise<ExitCode> {
  const { display, output } = context;
  const redeploys = await withHostRuntime(context, (host) => host.engine.listRedeploys());
  display.close();
  const rows = redeploys.map(({ opId, state, about, disks, editedFiles, problem }) => [
    opId,
    state,
    about ? formatInstant(about.editedAtMs) : '-',
    printable(about?.machine ?? '-'),
    printable(about?.profile ?? '-'),
    String(editedFiles.length),
    printable(problem ?? disks.join(', ')),
  ]);
  const titles = ['Edit', 'State', 'When', 'Machine', 'Profile'].map((title) => ({ title }));
  output.result(
    { redeploys },
    rows.length === 0
      ? ['No redeploy of this host can be taken back.']
      : table([...titles, { title: 'Files', align: 'right' }, { title: 'Disks' }], rows),
  );
  return EXIT.done;
}

async function revert(
  context: CommandContext,
  { edit, files, overwrite }: Extract<RedeploysAction, { kind: 'revert' }>,
): Promise<ExitCode> {
  const { display, output, signal } = context;
  const { style } = output;
  const input = { edit, by: files ? 'files' : 'bytes', overwriteChanged: overwrite } as const;
  const summary = await withHostRuntime(context, (host) =>
    host.engine.revertRedeploy(input, { signal, progress: () => {} }),
  );
  display.close();
  const { wasReverted, durationMs } = summary;
  output.result(summary, [
    wasReverted
      ? goodLine(style, `${edit} was taken back before; nothing was written`)
      : goodLine(style, `${edit} is taken back in ${formatDuration(durationMs)}`),
    ...summary.disks.map((path) => `    disk ${printable(path)}`),
    ...summary.files.map((path) => `    ${printable(path)} is as it was restored`),
    ...(overwrite && !files && !wasReverted
      ? [
          style.warn(
            'Bytes that were changed since were overwritten. Check the filesystems before a machine uses them.',
          ),
        ]
      : []),
  ]);
  return EXIT.done;
}
