@echo off
rem Set up, start the three services, wait until they are healthy, offer the walk-through; Ctrl-C stops all of it.
rem   start-demo.bat          start and stay
rem   start-demo.bat --demo   play the walk-through and exit: errorlevel 0 only if every phase behaved
rem All logic is in the Python launcher: it serves with waitress here, one process per service.
setlocal
cd /d "%~dp0"
set PYTHONUTF8=1
set VENV_PYTHON=.venv\Scripts\python.exe
set CHECK=import sys; sys.exit(sys.version_info ^< (3, 11))

if exist %VENV_PYTHON% goto install
set PYTHON=py -3
%PYTHON% -c "%CHECK%" >nul 2>nul
if not errorlevel 1 goto create
set PYTHON=python
%PYTHON% -c "%CHECK%" >nul 2>nul
if not errorlevel 1 goto create
echo Python 3.11 or later is needed: https://www.python.org/downloads/
goto failed

:create
echo Making .venv
%PYTHON% -m venv .venv
if errorlevel 1 goto failed

:install
fc /b requirements.lock .venv\requirements.lock >nul 2>nul
if not errorlevel 1 goto start
echo Installing requirements.lock
%VENV_PYTHON% -m pip --disable-pip-version-check install --quiet --require-hashes --requirement requirements.lock
if errorlevel 1 goto failed
copy /y requirements.lock .venv\requirements.lock >nul

:start
%VENV_PYTHON% -m scripts up %*
if errorlevel 1 goto failed
if not defined CI pause
exit /b 0

:failed
if not defined CI pause
exit /b 1
