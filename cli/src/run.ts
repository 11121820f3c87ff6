/**
 * One command from its arguments to its exit code. Nothing is thrown: what fails becomes a message with a code and a next
 * step, and with `--json` a document.
 */
import { CommanderError } from 'commander';
import { systemClock } from '@lifeboat/foundation/clock';
import { loadConfiguration } from '@lifeboat/runtime/configuration';
import packageJson from '../package.json' with { type: 'json' };
import { createContext, type CommandContext } from './context.ts';
import { EXIT, type ExitCode } from './exit-codes.ts';
import { failureOf } from './failure.ts';
import { listenForInterruption } from './interruption.ts';
import { createOutput, type Streams } from './output.ts';
import { createProgram, type GlobalOptions, type Handlers } from './program.ts';

export async function run(args: readonly string[], streams: Streams): Promise<ExitCode> {
  let code: ExitCode = EXIT.done;
  const program = createProgram({
    version: packageJson.version,
    handlers: handlersOn(streams),
    finish: (finished) => {
      code = finished;
    },
    write: { out: (text) => streams.stdout.write(text), err: (text) => streams.stderr.write(text) },
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done; // --help, --version
    // No command at all: commander has shown the help.
    if (error instanceof CommanderError && error.code === 'commander.help') return EXIT.usage;
    const failure = failureOf(error);
    createOutput(streams, { json: args.includes('--json') }).failed(failure);
    return failure.exitCode;
  }
}

function handlersOn(streams: Streams): Handlers {
  const within = async (
    global: GlobalOptions,
    body: (context: CommandContext) => Promise<ExitCode>,
  ): Promise<ExitCode> => {
    const configuration = loadConfiguration({
      environment: streams.environment,
      ...(global.config === undefined ? {} : { configPath: global.config }),
    });
    let say = (line: string): void => void streams.stderr.write(`${line}\n`);
    const interruption = listenForInterruption({
      clock: systemClock,
      say: (line) => say(line),
      exit: (code) => process.exit(code),
    });
    const context = createContext(streams, { global, configuration, signal: interruption.signal });
    say = (line) => context.display.note(line);
    try {
      const code = await body(context);
      // A command that tidied up by itself knows that it was broken off, not by which signal.
      return code === EXIT.interrupted ? (interruption.exitCode() ?? code) : code;
    } catch (error) {
      const failure = failureOf(error);
      context.stages.breakOff(failure.code);
      context.display.close();
      context.output.failed(failure);
      return interruption.exitCode() ?? failure.exitCode;
    } finally {
      context.display.close();
      interruption.close();
    }
  };
  // Loaded when it is their turn: help and wrong usage then answer without the Temporal client and the engine.
  return {
    demo: async (options, global) => {
      const { demoCommand } = await import('./commands/demo.ts');
      return await within(global, (context) => demoCommand(context, options));
    },
    up: async (global) => {
      const { upCommand } = await import('./commands/up.ts');
      return await within(global, upCommand);
    },
    backup: async (machine, global) => {
      const { backupCommand } = await import('./commands/backup.ts');
      return await within(global, (context) => backupCommand(context, machine));
    },
    points: async (machine, global) => {
      const { pointsCommand } = await import('./commands/points.ts');
      return await within(global, (context) => pointsCommand(context, machine));
    },
    inspect: async (machine, point, global) => {
      const { inspectCommand } = await import('./commands/inspect.ts');
      return await within(global, (context) => inspectCommand(context, machine, point));
    },
    evidence: async (machine, global) => {
      const { evidenceCommand } = await import('./commands/evidence.ts');
      return await within(global, (context) => evidenceCommand(context, machine));
    },
    machines: async (global) => {
      const { machinesCommand } = await import('./commands/machines.ts');
      return await within(global, machinesCommand);
    },
    locks: async (options, global) => {
      const { locksCommand } = await import('./commands/locks.ts');
      return await within(global, (context) => locksCommand(context, options));
    },
    verify: async (machine, options, global) => {
      const { verifyCommand } = await import('./commands/verify.ts');
      return await within(global, (context) => verifyCommand(context, machine, options));
    },
    restore: async (machine, options, global) => {
      const { restoreCommand } = await import('./commands/restore.ts');
      return await within(global, (context) => restoreCommand(context, machine, options));
    },
    repo: async (action, global) => {
      const { repoCommand } = await import('./commands/repo.ts');
      return await within(global, (context) => repoCommand(context, action));
    },
    profiles: async (action, global) => {
      const { profilesCommand } = await import('./commands/profiles.ts');
      return await within(global, (context) => profilesCommand(context, action));
    },
    drivers: async (action, global) => {
      const { driversCommand } = await import('./commands/drivers.ts');
      return await within(global, (context) => driversCommand(context, action));
    },
    preflight: async (machines, options, global) => {
      const { preflightCommand } = await import('./commands/preflight.ts');
      return await within(global, (context) => preflightCommand(context, machines, options));
    },
    redeploys: async (action, global) => {
      const { redeploysCommand } = await import('./commands/redeploys.ts');
      return await within(global, (context) => redeploysCommand(context, action));
    },
    redeploy: async (machine, options, global) => {
      const { redeployCommand } = await import('./commands/redeploy.ts');
      return await within(global, (context) => redeployCommand(context, machine, options));
    },
  };
}
