// A server of Go's own kind: goroutines on several threads, the netpoller, a garbage collector that runs beside the program,
// and preemption by signals. `runtime_tests.rs` builds it with Debian's Go, boots it on two processors and loads it.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// What requests leave behind, so that the collector has something to follow.
var kept [64]atomic.Pointer[[]string]

var count atomic.Uint64

// Each answer is made of garbage.
func hello(writer http.ResponseWriter, request *http.Request) {
	words := make([]string, 200)
	for index := range words {
		words[index] = fmt.Sprint("word ", index, " of ", request.RemoteAddr)
	}
	number := count.Add(1)
	kept[number%uint64(len(kept))].Store(&words)
	fmt.Fprintln(writer, "hello from Go")
}

// Loops that call nothing take every processor; only a signal brings this function back.
func spin(writer http.ResponseWriter, _ *http.Request) {
	var isOver atomic.Bool
	loops := 2 * runtime.GOMAXPROCS(0)
	done := make(chan uint64, loops)
	for loop := 0; loop < loops; loop++ {
		go func() {
			turns := uint64(0)
			for !isOver.Load() {
				turns++
			}
			done <- turns
		}()
	}
	time.Sleep(20 * time.Millisecond)
	isOver.Store(true)
	for loop := 0; loop < loops; loop++ {
		<-done
	}
	fmt.Fprintln(writer, "came back")
}

// Stops the world.
func collect(writer http.ResponseWriter, _ *http.Request) {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	fmt.Fprintf(writer, "processors %d\ncollections %d\n", runtime.GOMAXPROCS(0), stats.NumGC)
}

func main() {
	http.HandleFunc("/", hello)
	http.HandleFunc("/spin", spin)
	http.HandleFunc("/collect", collect)
	server := &http.Server{Addr: ":8080"}
	stopped := make(chan error)
	go func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		limit, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		stopped <- server.Shutdown(limit)
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		panic(err)
	}
	if err := <-stopped; err != nil {
		panic(err)
	}
	fmt.Println("served", count.Load())
}
