package org
import ("testing";"time";"runtime")
func TestZZ(t *testing.T){
 text:=crowd(100_000)
 t0:=time.Now()
 reg,_:=ParseRegistry("r",text)
 t1:=time.Now()
 d,p,_:=Build(reg,shared,ours,1,today)
 t2:=time.Now()
 runtime.GC(); var m runtime.MemStats; runtime.ReadMemStats(&m)
 t.Log(len(text)>>20, t1.Sub(t0), t2.Sub(t1), d!=nil, len(p), m.HeapAlloc>>20)
 reg=Registry{}; text=nil
 runtime.GC(); runtime.ReadMemStats(&m); t.Log(m.HeapAlloc>>20)
 runtime.KeepAlive(d)
}
