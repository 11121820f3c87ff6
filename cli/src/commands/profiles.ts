import {
  listProfiles,
  profileText,
  profileTextFromDomain,
  profileTextFromLspci,
} from '@lifeboat/runtime/hardware-profiles';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { usage } from '../options.ts';
import type { ProfilesAction } from '../profiles-program.ts';
import { table } from '../text/table.ts';
import { printable } from '../text/width.ts';

export async function profilesCommand(context: CommandContext, action: ProfilesAction): Promise<ExitCode> {
  const { display, output } = context;
  if (action.kind === 'list') {
    const profiles = await listProfiles();
    display.close();
    const rows = profiles.map(({ name, description }) => [printable(name), printable(description)]);
    output.result({ profiles }, table([{ title: 'Profile' }, { title: 'Hardware' }], rows));
    return EXIT.done;
  }
  const text = await textFor(context, action);
  display.close();
  // The same on both forms: the text is a file for --target.
  output.result(JSON.parse(text), text.trimEnd().split('\n').map(printable));
  return EXIT.done;
}

async function textFor(
  { configuration }: CommandContext,
  action: Exclude<ProfilesAction, { kind: 'list' }>,
): Promise<string> {
  switch (action.kind) {
    case 'show':
      return await profileText(action.profile);
    case 'from-domain':
      return await profileTextFromDomain(configuration, action.machine, action.name);
    default: {
      const { path, kind: _, ...facts } = action;
      if (facts.secureBoot && facts.firmware === 'bios') throw usage('--secure-boot goes with --firmware uefi.');
      return await profileTextFromLspci(path, facts);
    }
  }
}
