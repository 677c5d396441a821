"""Following a file: whole lines, never twice, across rotation and restarts."""

from bridge.asterisk.tail import LINE_BYTES_MAX, Position, Tail


def take(tail: Tail) -> list[str]:
    lines = tail.read()
    if lines:
        tail.position = lines[-1].behind
    return [line.text for line in lines]


def append(path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_file_that_is_not_there_yet(tmp_path):
    tail = Tail(tmp_path / "journal")
    assert not tail.pending()
    assert take(tail) == []
    append(tmp_path / "journal", "one\n")
    assert tail.pending()
    assert take(tail) == ["one"]
    assert not tail.pending()


def test_a_line_that_is_still_being_written_is_left(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\ntw")
    tail = Tail(path)
    assert take(tail) == ["one"]
    assert take(tail) == []
    append(path, "o\n")
    assert take(tail) == ["two"]


def test_a_position_that_was_not_moved_gives_the_same_lines_again(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\ntwo\n")
    tail = Tail(path)
    assert [line.text for line in tail.read()] == [line.text for line in tail.read()] == ["one", "two"]


def test_a_part_of_the_lines_can_be_taken(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\ntwo\n")
    tail = Tail(path)
    tail.position = tail.read()[0].behind
    assert take(tail) == ["two"]


def test_a_restart_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\n")
    first = Tail(path)
    take(first)
    append(path, "two\n")
    assert take(Tail(path, first.position)) == ["two"]


def test_rotation_loses_and_repeats_nothing(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\n")
    tail = Tail(path)
    assert take(tail) == ["one"]
    append(path, "two\n")
    path.rename(tmp_path / "journal.1")
    append(path, "three\n")
    assert take(tail) == ["two"]
    assert tail.pending()
    assert take(tail) == []  # the end of the old one
    assert take(tail) == ["three"]


def test_rotation_while_nobody_was_reading(tmp_path):
    path = tmp_path / "journal"
    append(path, "one\n")
    first = Tail(path)
    take(first)
    append(path, "two\n")
    path.rename(tmp_path / "journal.1")
    append(path, "three\n")
    tail = Tail(path, first.position)
    assert [*take(tail), *take(tail), *take(tail)] == ["two", "three"]


def test_a_file_that_is_gone_for_good(tmp_path):
    path = tmp_path / "journal"
    append(path, "new\n")
    assert take(Tail(path, Position(inode=1, offset=999))) == ["new"]


def test_a_line_without_end_does_not_stop_the_next(tmp_path):
    path = tmp_path / "journal"
    append(path, "x" * (LINE_BYTES_MAX + 1))
    tail = Tail(path)
    assert len(take(tail)) == 1
    append(path, "\nnext\n")
    assert take(tail)[-1] == "next"


def test_bytes_that_are_no_text_do_not_stop_the_next(tmp_path):
    path = tmp_path / "journal"
    path.write_bytes(b"\xff\xfe\nnext\n")
    assert take(Tail(path))[-1] == "next"
