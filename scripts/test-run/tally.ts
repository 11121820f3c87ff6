/** Counts what passed and what failed, and repeats the failures at the end, where they are read. */
export class Tally {
  #passed = 0;
  readonly #failures: string[] = [];
  readonly #print: (line: string) => void;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  get green(): boolean {
    return this.#passed > 0 && this.#failures.length === 0;
  }

  heading(text: string): void {
    this.#print(`\n== ${text}`);
  }

  pass(name: string, detail = ''): void {
    this.#passed++;
    this.#print(`  passed  ${name}${detail && `  (${detail})`}`);
  }

  /** Tests that were printed by the program that ran them. */
  passSilently(count: number): void {
    this.#passed += count;
  }

  fail(name: string, detail = ''): void {
    this.#failures.push(name);
    this.#print(`  FAILED  ${name}${detail && `\n${detail}`}`);
  }

  /** The last line is for programs: exactly `N passed, N failed`. */
  finish(): void {
    if (this.#passed === 0 && this.#failures.length === 0) this.fail('nothing ran');
    if (this.#failures.length > 0) {
      this.heading('failed');
      for (const name of this.#failures) this.#print(`  ${name}`);
    }
    this.#print(`\n${this.#passed} passed, ${this.#failures.length} failed`);
  }
}
