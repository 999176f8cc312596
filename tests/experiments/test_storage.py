"""Optuna's storage of a study, in a file."""

from __future__ import annotations

import sqlite3

import optuna
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from tellapart.errors import RunError, UsageError
from tellapart.experiments import storage
from tellapart.experiments.storage import open_storage


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path / 'shared.db'}"


@pytest.fixture
def description(grid):
    return grid.description


def test_who_finds_the_tables_made_meanwhile_goes_on(tmp_path, address, description, monkeypatch):
    """Three processes make the tables; this one is the last, at a table and then at the row with its version."""
    errors = iter(
        (
            OperationalError("CREATE TABLE studies", {}, Exception("table studies already exists")),
            IntegrityError("INSERT INTO alembic_version", {}, Exception("UNIQUE constraint failed")),
        )
    )
    whole = optuna.storages.RDBStorage.__init__

    def late(self, *values, **options):
        whole(self, *values, **options)
        if error := next(errors, None):
            self.engine.dispose()
            raise error

    monkeypatch.setattr(optuna.storages.RDBStorage, "__init__", late)
    monkeypatch.setattr(storage, "_PAUSES", (0.0, 0.0))
    with open_storage(tmp_path, address, description) as study:
        assert study.study_name == description.name
        assert study.user_attrs["fingerprint"]


def test_a_database_that_always_fails_is_refused(tmp_path, address, description, monkeypatch):
    def broken(*values, **options):
        raise OperationalError("CREATE TABLE studies", {}, Exception("table studies already exists"))

    monkeypatch.setattr(optuna.storages, "RDBStorage", broken)
    monkeypatch.setattr(storage, "_PAUSES", (0.0, 0.0))
    with pytest.raises(UsageError, match="already exists"), open_storage(tmp_path, address, description):
        pass


def test_an_error_within_the_block_is_not_the_databases(tmp_path, address, description):
    with pytest.raises(OperationalError), open_storage(tmp_path, address, description):
        raise OperationalError("", {}, Exception("mine"))


def test_one_connection_is_kept_and_it_ends_with_the_block(tmp_path, address, description):
    with open_storage(tmp_path, address, description) as study:
        study.get_trials()
        pool = study._storage._backend.engine.pool
        assert (pool.size(), pool.checkedin()) == (1, 1)
    assert pool.checkedin() == 0


@pytest.mark.parametrize("name", ["{x}", "what?", "50%41", "ö × 2"])
def test_a_folder_may_have_any_name(tmp_path, description, name):
    folder = tmp_path / name
    folder.mkdir()
    with open_storage(folder, "", description) as study:
        study.add_trial(optuna.trial.create_trial(value=0.5))
    assert [path.name for path in folder.iterdir()] == ["optuna.db"]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with open_storage(folder, "", description) as study:
        assert [trial.value for trial in study.trials] == [0.5]


def test_a_database_that_fails_in_mid_study_is_told_in_plain_words(tmp_path, description, monkeypatch):
    """A file that may not grow any more: what SQLite says of a full disk."""
    with open_storage(tmp_path, "", description):
        pass

    def full(path):
        connection = sqlite3.connect(path, check_same_thread=False)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes what there is
        return connection

    monkeypatch.setattr(storage, "_connect", full)
    trial = optuna.trial.create_trial(value=0.5, user_attrs={"long": "x" * 1_000_000})
    with (
        pytest.raises(RunError, match=r"optuna\.db: the database failed: .*full") as caught,
        open_storage(tmp_path, "", description) as study,
    ):
        study.add_trial(trial)
    assert "goes on" in caught.value.hint
