/** How a command asks for a boot test. */
import { Option, type Command } from 'commander';
import type { BootPlan } from '@lifeboat/contracts/workflow/operations';
import { httpOption, patternOption, portOption, timeoutOption } from './options.ts';

type Reach = NonNullable<BootPlan['reach']>[number];

export interface BootOptions {
  readonly ready: string;
  readonly readyBy: NonNullable<BootPlan['readyBy']>;
  /** Milliseconds. */
  readonly timeout: number;
  readonly tcp: readonly Reach[];
  readonly http: readonly Reach[];
  readonly probe: readonly string[];
}

/** A login prompt on the serial console, or the marker of the demo's guest. */
const DEFAULT_READY = 'login: |GUEST-BOOT-OK';
/** Three times what a Debian guest needs under software emulation on two busy cores. */
const DEFAULT_TIMEOUT_S = '300';

export function withBoot(command: Command): Command {
  return command
    .option(
      '--ready <pattern>',
      'regular expression that the console shows once the machine is up',
      patternOption,
      DEFAULT_READY,
    )
    .addOption(
      new Option(
        '--ready-by <sign>',
        'what says that it is up: its console shows --ready, its guest agent answers, it takes an address, its screen settles',
      )
        .choices(['console', 'agent', 'dhcp', 'screen'])
        .default('console'),
    )
    .option('--timeout <seconds>', 'how long a start may take', timeoutOption, timeoutOption(DEFAULT_TIMEOUT_S))
    .option(
      '--tcp <port>',
      'a port of the guest that must accept once it is up; again for more',
      collect(portOption),
      [],
    )
    .option(
      '--http <port/path>',
      'a page of the guest that must answer with a status from 200 to 399; again for more',
      collect(httpOption),
      [],
    )
    .option(
      '--probe <command>',
      'a command that must end with 0 in the guest, through its agent; again for more',
      collect(String),
      [],
    );
}

/** As an operation takes it. */
export function bootPlan({ ready, readyBy, timeout, tcp, http, probe }: BootOptions): Omit<BootPlan, 'profile'> {
  const reach = [...tcp, ...http];
  return {
    readyPattern: ready,
    timeoutMs: timeout,
    ...(readyBy === 'console' ? {} : { readyBy }),
    ...(reach.length === 0 ? {} : { reach }),
    ...(probe.length === 0 ? {} : { probes: probe }),
  };
}

/** An option that may be given several times. */
export function collect<T>(parse: (text: string) => T): (text: string, before: readonly T[] | undefined) => T[] {
  return (text, before = []) => [...before, parse(text)];
}
