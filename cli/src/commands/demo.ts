import type { CommandContext } from '../context.ts';
import { reportText } from '../demo/report-text.ts';
import { verdictOf, type Report } from '../demo/report.ts';
import { removeRuns, runDemo } from '../demo/run-demo.ts';
import { EXIT, type ExitCode } from '../exit-codes.ts';
import type { DemoOptions } from '../program.ts';
import { goodLine } from './findings.ts';

export async function demoCommand(context: CommandContext, options: DemoOptions): Promise<ExitCode> {
  const { output, display, width } = context;
  if (options.clean) {
    const removed = await removeRuns(context, { includeKept: true });
    display.close();
    const lines = removed.map((name) => goodLine(output.style, `removed demo run ${name}`));
    output.result({ removed }, lines.length > 0 ? lines : ['No demo run was kept.']);
    return EXIT.done;
  }
  const { report, htmlPath, failure } = await runDemo(context, options);
  display.close();
  const place = htmlPath === undefined ? {} : { htmlPath };
  output.result(
    { verdict: verdictOf(report), ...place, report: withoutImages(report) },
    reportText(report, { style: output.style, width, ...place }),
  );
  if (!failure) return verdictOf(report) === 'good' ? EXIT.done : EXIT.negative;
  output.failed(failure, { document: false });
  return failure.exitCode;
}

/** Screenshots are in the HTML file; as numbers in JSON nobody could look at them. */
function withoutImages(report: Report): unknown {
  const steps = report.steps.map((step) => ({
    ...step,
    evidence: step.evidence.map((item) => (item.kind === 'screenshot' ? { kind: item.kind, title: item.title } : item)),
  }));
  return { ...report, steps };
}
