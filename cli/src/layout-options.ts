/** How partitions are to lie on a restore's target: options that `restore` and `redeploy` share. */
import { type Command, InvalidArgumentError } from 'commander';
import type { RestoreLayout } from '@lifeboat/contracts/workflow/verbs';
import { sizeOption } from './options.ts';

const LAYOUT_HELP = `Layout:
  Without these options every byte comes back where it was. With one of them the partitions of one disk are planned anew: the plan is
  shown, and what cannot be is refused, before anything is written.
    keep      partitions begin where they began
    aligned   those that begin off a boundary of 1 MiB (old systems: sector 63) move to the next
    gpt       as aligned, and an MBR becomes a GPT; GRUB is put into a BIOS boot partition`;

export interface RawLayoutOptions {
  readonly layout?: RestoreLayout['scheme'];
  readonly resize?: number | 'last';
  readonly only?: number[];
  readonly size?: number;
  readonly uefi?: boolean;
  readonly newIds?: boolean;
}

export function withLayout(command: Command): Command {
  return command
    .option(
      '--layout <scheme>',
      'keep, aligned or gpt (default: keep, if another of these options is given)',
      schemeOption,
    )
    .option('--resize <partition>', 'grows or shrinks with the target: a number, or "last"', partitionOption)
    .option('--only <partitions>', 'bring only these, such as 1,2', partitionsOption)
    .option('--size <size>', 'of the new disk image, such as 40GiB (default: as it was)', sizeOption)
    .option('--uefi', 'make it start by UEFI: an EFI system partition with loaders; needs a GPT')
    .option('--new-ids', 'new ids for the disk and its partitions, where the original stays online')
    .addHelpText('after', `\n${LAYOUT_HELP}`);
}

/** Undefined: none of them was given. */
export function layoutOf(raw: RawLayoutOptions, disk: string | undefined): RestoreLayout | undefined {
  const { layout, resize, only, size, uefi = false, newIds = false } = raw;
  const asked = [layout, resize, only, size].some((option) => option !== undefined) || uefi || newIds;
  if (!asked) return undefined;
  return {
    scheme: layout ?? 'keep',
    firmware: uefi ? 'uefi' : 'same',
    ids: newIds ? 'new' : 'kept',
    ...(disk === undefined ? {} : { disk }),
    ...(resize === undefined ? {} : { resize }),
    ...(only === undefined ? {} : { only }),
    ...(size === undefined ? {} : { sizeBytes: size }),
  };
}

const SCHEMES = ['keep', 'aligned', 'gpt'] as const;

function schemeOption(text: string): RestoreLayout['scheme'] {
  const scheme = SCHEMES.find((known) => known === text);
  if (!scheme) throw new InvalidArgumentError(`choose one of ${SCHEMES.join(', ')}.`);
  return scheme;
}

const MAX_PARTITION = 255;

function partitionOption(text: string): number | 'last' {
  return text === 'last' ? 'last' : partitionNumber(text);
}

function partitionsOption(text: string): number[] {
  return text.split(',').map(partitionNumber);
}

function partitionNumber(text: string): number {
  const number = Number(text);
  if (!/^\d{1,3}$/.test(text) || number < 1 || number > MAX_PARTITION)
    throw new InvalidArgumentError('a partition has a number, such as 2; "lifeboat inspect" shows it.');
  return number;
}
