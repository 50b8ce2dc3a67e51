"""The one place where HiGHS is met: rows of a linear programme, and solving it within a time."""

import highspy
import numpy as np
import numpy.typing as npt

from cloud.optimise.problem import Array

Solver = highspy.Highs


class _Quiet(highspy.Highs):
    """HiGHS without a word on standard output, which is the program's own."""

    def enableCallbacks(self) -> None:  # noqa: N802 (its name there)
        """Callbacks are not used here, and enabling them prints a banner before it could be silenced."""


def new_solver(time_limit_s: float) -> highspy.Highs:
    """A silent solver on one thread, bounded in time."""
    solver = _Quiet()  # type: ignore[no-untyped-call]
    # No relative gap: an award's value would make it as wide as a whole day's cost.
    options = {"output_flag": False, "threads": 1, "time_limit": time_limit_s, "mip_rel_gap": 0.0}
    for option, value in options.items():
        solver.setOptionValue(option, value)
    return solver


class Rows:
    """Constraint rows, collected as triplets."""

    def __init__(self) -> None:
        self.count = 0
        self.lower: list[Array] = []
        self.upper: list[Array] = []
        self._row: list[npt.NDArray[np.int32]] = []
        self._column: list[npt.NDArray[np.int32]] = []
        self._value: list[Array] = []

    def add(self, terms: list[tuple[npt.NDArray[np.int64], Array | float]], lower: Array, upper: Array) -> None:
        """One row for each element of `lower`; each term is a column index per row and its coefficients."""
        rows = np.arange(self.count, self.count + lower.size, dtype=np.int32)
        for columns, value in terms:
            self._row.append(rows)
            self._column.append(columns.astype(np.int32))
            self._value.append(np.broadcast_to(np.asarray(value, dtype=np.float64), rows.shape))
        self.lower.append(lower)
        self.upper.append(upper)
        self.count += lower.size

    def row_wise(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Array]:
        """Starts, column indices and values in row order."""
        row, column, value = np.concatenate(self._row), np.concatenate(self._column), np.concatenate(self._value)
        order = np.argsort(row, kind="stable")
        starts = np.concatenate(([0], np.cumsum(np.bincount(row, minlength=self.count)))).astype(np.int32)
        return starts, column[order], value[order]


def run(solver: highspy.Highs, cost: Array, lower: Array, upper: Array, rows: Rows, continuous: int) -> Array | None:
    """Column values, or None where none were found in time."""
    starts, indices, values = rows.row_wise()
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = cost.size, rows.count
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = cost, lower, upper
    lp.row_lower_, lp.row_upper_ = np.concatenate(rows.lower), np.concatenate(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = starts, indices, values
    if cost.size > continuous:
        kind = highspy.HighsVarType
        lp.integrality_ = [kind.kContinuous] * continuous + [kind.kInteger] * (cost.size - continuous)
    solver.passModel(lp)
    solver.run()
    info = solver.getInfo()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    return np.asarray(solver.getSolution().col_value, dtype=np.float64)


def duals(solver: highspy.Highs, rows: slice) -> Array | None:
    """What a unit more on the right-hand side of each of these rows would have cost; None where the run cannot say.

    A programme with binaries has none.
    """
    solution = solver.getSolution()
    return np.asarray(solution.row_dual, dtype=np.float64)[rows] if solution.dual_valid else None


def infeasible(solver: highspy.Highs) -> bool:
    """Whether the last run proved that there is no solution."""
    return bool(solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible)


def status(solver: highspy.Highs) -> str:
    """What kind of solution the last run gave, as in Plan.status."""
    return "optimal" if solver.getModelStatus() == highspy.HighsModelStatus.kOptimal else "time limit"
