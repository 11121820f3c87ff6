/**
 * The instant a point id carries (`p20261124T001122Z-…`), Unix ms, whole seconds. Foundation has the same for processes;
 * its module needs Node, which the sandbox does not have.
 */
export function pointInstantMs(pointId: string): number {
  const part = (from: number, length: number): number => Number(pointId.slice(from, from + length));
  return Date.UTC(part(1, 4), part(5, 2) - 1, part(7, 2), part(10, 2), part(12, 2), part(14, 2));
}
