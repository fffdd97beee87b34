import sys; sys.path.insert(0,'/work/wt/dumps11')
from pathlib import Path
import pytest
from tests.dumps.test_real_files import *
from tests.dumps.files import lime
@pytest.fixture(scope="module")
def files(tmp_path_factory):
    Q=Path('/tmp/d11/q'); F=Path('/tmp/d11/f')
    raw=Path('/tmp/d11/s/memory.raw').resolve()
    d={"raw":raw,"elf":Q/"elf-regs-vmcoreinfo","flattened":Q/"kdump-zlib","paging":Q/"elf-paging-regs-vmcoreinfo","kdump-zlib-R":F/"R","c-d0":Q/"md-c-d0","l-d1":Q/"md-l-d1","E-d1":F/"Ed1","c-d31":Q/"md-c-d31","E-d31":Q/"md-d31","F":Q/"md-F"}
    low=raw.read_bytes(); d["lime"]=F/"lime"
    if not d["lime"].exists(): lime(d["lime"],[(0,low[:BIOS*PAGE]),(1<<20,low[1<<20:])])
    yield d
