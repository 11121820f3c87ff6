import type { HostRuntime } from '@lifeboat/runtime/host-runtime';
import type { CommandContext } from '../context.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import { withHostRuntime } from '../operations/host.ts';
import { formatInstant } from '../text/instant.ts';
import type { Style } from '../text/style.ts';
import { printable } from '../text/width.ts';
import { badLine, goodLine } from './findings.ts';

type EvidenceSummary = Awaited<ReturnType<HostRuntime['engine']['listEvidence']>>;

/**
 * Reads the repository and nothing else: no Temporal, no hypervisor. A chain that is not whole makes the exit code 3; what was found not to
 * hold is shown red and is no fault of the chain.
 */
export async function evidenceCommand(context: CommandContext, machine: string): Promise<ExitCode> {
  const { output, display, signal } = context;
  const evidence = await withHostRuntime(context, (host) => host.engine.listEvidence(machine, { signal }));
  display.close();
  output.result(evidence, evidenceLines(output.style, evidence));
  return evidence.sound ? EXIT.done : EXIT.negative;
}

export function evidenceLines(style: Style, evidence: EvidenceSummary): string[] {
  const { machineId, machineName, records, problems, foreignObjects, sound } = evidence;
  return [
    printable(machineName === undefined ? machineId : `${machineName} (${machineId})`),
    ...records.flatMap((record) => recordLines(style, record)),
    ...problems.map(({ number, why }) => badLine(style, `record ${number}: ${why}`)),
    ...(foreignObjects > 0
      ? [style.warn(`${foreignObjects} objects that are not ours lie among the records; they are ignored`)]
      : []),
    sound
      ? goodLine(style, `the chain is whole: ${records.length} records, each with the hash of the one before it`)
      : badLine(style, 'the chain is not what was written'),
  ];
}

function recordLines(style: Style, record: EvidenceSummary['records'][number]): string[] {
  const { number, operation, operationId, endedMs, claims, hardware, summary, artefacts } = record;
  const on = hardware === '' ? '' : ` on ${hardware}`;
  return [
    printable(
      `${String(number).padStart(4)}  ${formatInstant(endedMs)}  ${operation}${on}${operationId === '' ? '' : ` (${operationId})`}`,
    ),
    ...claims.map(({ pointId, pointIsThere, level, result, disks, reason }) => {
      const of = disks.length === 0 ? '' : ` of disk ${disks.join(', ')}`;
      const point = pointIsThere ? pointId : `${pointId}, which is not there any more`;
      const line = `${point}: ${level}${of}`;
      return `      ${result === 'proven' ? goodLine(style, line) : badLine(style, `${line}: ${reason}`)}`;
    }),
    ...(summary === '' ? [] : [printable(`      ${summary}`)]),
    ...artefacts.map(({ name, sizeBytes, sha256 }) => printable(`      ${name}: ${sizeBytes} bytes, sha256 ${sha256}`)),
  ];
}
