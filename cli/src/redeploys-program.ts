/** `lifeboat redeploy list|revert` as it is typed: what becomes of edits that were made. */
import type { Command } from 'commander';
import type { OpId } from '@lifeboat/foundation/ids';
import { editArgument } from './options.ts';
import type { GlobalOptions } from './program.ts';

export type RedeploysAction =
  | { readonly kind: 'list' }
  | { readonly kind: 'revert'; readonly edit: OpId; readonly files: boolean; readonly overwrite: boolean };

type Define = (parent: Command, name: string, description: string, example: string) => Command;

export function addRedeploysCommands(
  redeploy: Command,
  define: Define,
  act: (action: RedeploysAction, options: GlobalOptions) => Promise<void>,
): void {
  // Else `redeploy` would take --json and the like for itself; it needs that `program` does so as well.
  redeploy.enablePositionalOptions();
  define(
    redeploy,
    'list',
    'Lists the redeploys of this host whose edits can be taken back.',
    'redeploy list --json',
  ).action((options: GlobalOptions) => act({ kind: 'list' }, options));
  define(
    redeploy,
    'revert',
    'Takes the edits of a redeploy back: the edited places of the disks hold again what the restore wrote there.',
    'redeploy revert dep-0a1b2c3d',
  )
    .argument('<edit>', 'as "lifeboat redeploy list" names it', editArgument)
    .option(
      '--files',
      'put the edited files back through the filesystem instead: for disks a machine was started from since',
      false,
    )
    .option('--overwrite', 'also over what was changed since; without, that is named and nothing is written', false)
    .action((edit: OpId, options: GlobalOptions & { files: boolean; overwrite: boolean }) =>
      act({ kind: 'revert', edit, files: options.files, overwrite: options.overwrite }, options),
    );
}
