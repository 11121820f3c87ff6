import { TestWorkflowEnvironment } from '@temporalio/testing';

/** io.temporal's test server, in which waiting costs no time. The path comes from the launcher, which sets it up. */
export async function timeSkippingServer(): Promise<TestWorkflowEnvironment> {
  const path = process.env['LIFEBOAT_TEMPORAL_TEST_SERVER'];
  if (!path) throw new Error('LIFEBOAT_TEMPORAL_TEST_SERVER is not set: run the tests through `npm test`');
  return await TestWorkflowEnvironment.createTimeSkipping({ server: { executable: { type: 'existing-path', path } } });
}
